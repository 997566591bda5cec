create or replace view main.training_curves as
with
run as (
    select training_run_id, base_source, dataset, preset, method, status
    from raw.training_runs
),
step as (
    select
        training_run_id, step, epoch, loss, reward_margin, reward_accuracy, reward_chosen, reward_rejected,
        learning_rate, grad_norm, tokens, seconds
    from raw.training_steps
)
select
    run.base_source,
    run.dataset,
    run.preset,
    run.method,
    step.step,
    step.epoch,
    step.loss,
    avg(step.loss) over recent as loss_of_last_20,
    step.reward_margin,
    avg(step.reward_margin) over recent as margin_of_last_20,
    step.reward_accuracy,
    avg(step.reward_accuracy) over recent as accuracy_of_last_20,
    step.reward_chosen,
    step.reward_rejected,
    step.learning_rate,
    step.grad_norm,
    step.tokens,
    step.seconds,
    step.tokens / nullif(step.seconds, 0) as tokens_per_second,
    run.status,
    step.training_run_id
from step
left join run on run.training_run_id = step.training_run_id
window recent as (partition by step.training_run_id order by step.step rows between 19 preceding and current row);

comment on view main.training_curves is
'One row per optimizer step of a DPO run: loss, rewards (beta times log-ratios; margin is chosen minus rejected), learning rate, gradient norm, tokens and seconds; the columns of_last_20 are means over the last 20 steps.';

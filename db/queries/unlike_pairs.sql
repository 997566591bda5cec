-- comparisons of shown cells that carry no mark, and why
select unnest(main.marked_cell(pair)), a, b, unlike
from main.cell_pairs as pair
where main.is_marked(pair) and unlike is not null
order by all

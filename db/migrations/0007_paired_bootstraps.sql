-- the cell that cell_id is compared with: mean, se and interval are then of the differences on queries of both
alter table raw.bootstraps add column baseline_cell_id varchar;

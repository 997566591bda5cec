-- Views for users whose names hold $1, with their columns and comments.
select
    views.view_name as view,
    string_agg(columns.column_name, ', ' order by columns.column_index) as columns,
    any_value(views.comment) as comment
from duckdb_views() as views
inner join duckdb_columns() as columns
    on columns.schema_name = views.schema_name and columns.table_name = views.view_name
where views.schema_name = 'main' and not views.internal and contains(views.view_name, $1)
group by views.view_name
order by views.view_name

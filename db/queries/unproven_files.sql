-- files of the cells that the tables show whose conversion, or that of the file they were quantised from, was not gated
select distinct cells.language, cells.model, cells.method, cells.dpo, cells.file_name
from main.cells as cells
join raw.cells as cell on cell.cell_id = cells.cell_id
join raw.conversions as conversion on conversion.gguf_sha256 = cell.gguf_sha256
left join raw.conversions as parent on parent.gguf_sha256 = conversion.parent_gguf_sha256
where cells.in_paper_tables and 'skipped' in (conversion.gate, parent.gate)
order by all

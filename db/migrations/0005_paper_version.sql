-- arXiv identifier with the version that prints the figure, such as 2503.01611v2
alter table raw.published_scores add column paper_version varchar;
alter table raw.published_errors add column paper_version varchar;

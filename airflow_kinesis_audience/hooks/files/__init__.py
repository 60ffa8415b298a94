"""The state as files on a disk or an object storage: Parquet tables and one file per ledger row."""

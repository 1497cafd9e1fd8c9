"""What training code imports: schemas, shards, videos, tables and cameras on disk. Never imports dagster."""

"""What Airflow's own UI shows of audiences: a page in its navigation."""

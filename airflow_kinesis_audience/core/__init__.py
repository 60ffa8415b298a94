"""The engine: it computes change sets and delivers them, and knows neither Airflow nor AWS."""

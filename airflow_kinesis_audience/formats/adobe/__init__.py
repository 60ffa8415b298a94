"""Adobe's profile export, one document per changed profile."""

from airflow_kinesis_audience.formats.adobe.profile import AdobeProfile

__all__ = ["AdobeProfile"]

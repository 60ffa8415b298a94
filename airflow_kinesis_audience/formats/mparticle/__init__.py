"""mParticle's audience messages: a user with the audiences that it enters and leaves."""

from airflow_kinesis_audience.formats.mparticle.audience import MparticleAudience

__all__ = ["MparticleAudience"]

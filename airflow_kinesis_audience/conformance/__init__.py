"""For teams that read the stream: checks that a consumer ends with the right members, however messages arrive.

The kit sends a consumer random histories of audiences in a wire format, and compares what the consumer has in the
end with what it must have. It needs Python's standard library alone, and shares no code with the package
``consumer``, which it checks, too. The invariant: the same seed gives the same histories in the same order.
"""

from airflow_kinesis_audience.conformance.checking import ConformanceReport, Consumer, Failure, check_consumer
from airflow_kinesis_audience.conformance.endpoint import HttpConsumer
from airflow_kinesis_audience.conformance.writing import FORMATS

__all__ = ["FORMATS", "ConformanceReport", "Consumer", "Failure", "HttpConsumer", "check_consumer"]

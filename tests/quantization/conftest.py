"""The networks that engines are tested with."""

from tests.infer.conftest import bilinear_net as bilinear_net
from tests.infer.conftest import busy_net as busy_net

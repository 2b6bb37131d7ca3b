"""jettyctl as a process. What helpers of these tests assert is explained as in the tests themselves."""

import pytest

pytest.register_assert_rewrite("tests.e2e.runs", "tests.e2e.stages", "tests.e2e.watching")

"""The table of problems is a promise: codes stay, exit codes stay."""

import re

from codezero.model import problems


def test_every_problem_is_in_the_table_under_its_own_code() -> None:
    declared = [value for value in vars(problems).values() if isinstance(value, problems.Problem)]

    assert len(problems.ALL) == len(declared) == len({problem.title for problem in declared})
    for code, problem in problems.ALL.items():
        assert code == problem.code
        assert re.fullmatch(r"CZ-[A-Z]+-[0-9]{3}", code)
        assert problem.meaning.endswith(".")
        assert 400 <= problem.status <= 599


def test_exit_codes_are_frozen() -> None:
    """Scripts depend on them: 1 failed, 2 usage, 3 precondition, 4 login, 5 forbidden, 6 not found, 7 conflict, 8 unreachable, 9 partly done."""
    expected = {
        "CZ-GENERAL-001": 1, "CZ-GENERAL-002": 2, "CZ-GENERAL-003": 6, "CZ-GENERAL-004": 2, "CZ-GENERAL-005": 8, "CZ-GENERAL-008": 7,
        "CZ-CONSUME-001": 2, "CZ-CONSUME-002": 2, "CZ-CONSUME-003": 7, "CZ-CONSUME-004": 3,
        "CZ-STREAM-001": 6, "CZ-STREAM-002": 8, "CZ-STREAM-003": 5, "CZ-STREAM-004": 8, "CZ-STREAM-005": 3, "CZ-STREAM-006": 8,
        "CZ-STREAM-007": 5, "CZ-ACCESS-001": 5, "CZ-ACCESS-002": 5, "CZ-ACCESS-003": 4, "CZ-ACCESS-004": 4,
        "CZ-TUNNEL-001": 8, "CZ-TUNNEL-002": 8, "CZ-TUNNEL-003": 3, "CZ-TUNNEL-004": 8,
        "CZ-AGENT-001": 1, "CZ-AGENT-002": 3, "CZ-AGENT-003": 5, "CZ-AGENT-004": 7, "CZ-AGENT-005": 3, "CZ-AGENT-006": 3,
        "CZ-AGENT-007": 1, "CZ-AGENT-008": 1, "CZ-SANDBOX-001": 3, "CZ-SANDBOX-002": 6, "CZ-SANDBOX-003": 1,
        "CZ-SERVE-001": 2, "CZ-SERVE-002": 2, "CZ-SERVE-003": 7, "CZ-SERVE-010": 3,
        "CZ-CLUSTER-001": 3, "CZ-CLUSTER-002": 8, "CZ-CLUSTER-003": 6, "CZ-CLUSTER-004": 7, "CZ-CLUSTER-005": 8, "CZ-CLUSTER-006": 3,
        "CZ-CONSOLE-001": 4, "CZ-CONSOLE-002": 5, "CZ-PAIR-001": 4, "CZ-PAIR-002": 5, "CZ-PAIR-003": 4, "CZ-PAIR-004": 5, "CZ-PAIR-005": 8,
        "CZ-PAIR-006": 5,
    }  # fmt: skip

    assert {code: problems.ALL[code].exit_code for code in expected} == expected

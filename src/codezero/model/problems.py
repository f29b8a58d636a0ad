"""What can go wrong, in product terms: one stable code each, what it means, and how processes and people are told.

Every error a person or a program sees carries the code of a `Problem` from this table; `czctl explain CODE` and the reference page are made
from it. Codes are never reused.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of failure: its code, a title, what it means, the exit code of `czctl` and the HTTP status of our APIs."""

    code: str
    title: str
    meaning: str
    exit_code: int = 1
    status: int = 500


class CodezeroError(Exception):
    """A failure with a stable code, the facts of this case, and the next step.

    `detail` says what failed and why, in one line. `fix` is what to do next, as a command where there is one.
    """

    def __init__(self, problem: Problem, detail: str, *, fix: str | None = None) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.detail} [{self.problem.code}]"


# Exit codes: 1 failed or not running, 2 usage, 3 precondition, 4 login needed, 5 forbidden, 6 not found, 7 conflict, 8 unreachable or timed
# out, 9 partly done. A test freezes them.
INTERNAL = Problem("CZ-GENERAL-001", "Internal error", "A defect in Codezero. The log has the details.", 1, 500)
BAD_REQUEST = Problem(
    "CZ-GENERAL-002", "Bad input", "The input could not be understood. The message names the part.", 2, 400
)
NOT_FOUND = Problem("CZ-GENERAL-003", "Not found", "There is nothing of that name.", 6, 404)
TOO_LARGE = Problem("CZ-GENERAL-004", "Too large", "The input is larger than the limit the message names.", 2, 413)
TIMED_OUT = Problem("CZ-GENERAL-005", "Timed out", "An answer did not come in time.", 8, 504)
OUTPUT_FAILED = Problem(
    "CZ-GENERAL-006", "Output not written", "What was asked for was done, and its answer could not be written.", 1, 500
)

PARTLY_DONE = Problem(
    "CZ-GENERAL-007", "Partly done", "A part of what was asked for could not be done; the message names it.", 9, 500
)
FILE_EXISTS = Problem(
    "CZ-GENERAL-008", "File exists", "A file of that name is there already, and it was left as it is.", 7, 409
)

BAD_RULE = Problem(
    "CZ-CONSUME-001",
    "Bad consume rule",
    "A consume rule could not be understood; the message names line and reason. No rule was changed.",
    2,
    422,
)
RULE_NEEDS_NAMESPACE = Problem(
    "CZ-CONSUME-002",
    "Rule without a namespace",
    "A bare service name needs a primary namespace, or the form service.namespace.",
    2,
    422,
)
PORT_IN_USE = Problem(
    "CZ-CONSUME-003",
    "Port in use on this machine",
    "Without nftables a consumed port needs its own listener, and another process holds it.",
    7,
    409,
)
ADDRESSES_EXHAUSTED = Problem(
    "CZ-CONSUME-004", "No virtual address left", "The range 127.72.0.0/14 has no free address left.", 3, 409
)

SERVICE_UNKNOWN = Problem(
    "CZ-STREAM-001", "Unknown service", "The Teamspace has no service, port or pod of that name.", 6, 404
)
NO_ENDPOINT = Problem("CZ-STREAM-002", "No ready endpoint", "The service exists and none of its pods is ready.", 8, 503)
ADDRESS_REFUSED = Problem(
    "CZ-STREAM-003",
    "Address refused",
    "The service leads to an address that must not be reached through a Teamspace (node, link-local, loopback).",
    5,
    403,
)
DIAL_FAILED = Problem(
    "CZ-STREAM-004",
    "Endpoint did not answer",
    "The pod of the service refused the connection or did not answer.",
    8,
    502,
)
STREAM_KIND_UNKNOWN = Problem(
    "CZ-STREAM-005",
    "Unknown stream kind",
    "The peer does not know this kind of stream: versions too far apart.",
    3,
    400,
)
TOO_MANY_STREAMS = Problem(
    "CZ-STREAM-006", "Too many streams", "The tunnel carries as many streams as its limit allows.", 8, 429
)
PORT_NOT_SERVED = Problem(
    "CZ-STREAM-007", "Port not served", "A stream asked for a port this laptop has not declared to serve.", 5, 403
)

FORBIDDEN = Problem("CZ-ACCESS-001", "Not allowed", "The policy of the Teamspace does not allow this.", 5, 403)
NO_POLICY = Problem("CZ-ACCESS-002", "No policy", "The Teamspace has no valid policy, so nothing is allowed.", 5, 403)
BAD_IDENTITY = Problem(
    "CZ-ACCESS-003", "Identity not accepted", "The certificate or token does not belong to this Teamspace.", 4, 401
)
TOKEN_REFUSED = Problem(
    "CZ-ACCESS-004",
    "Token refused",
    "The token is missing, expired or not for this Teamspace: fetch a new one.",
    4,
    407,
)
ACCESS_ENDED = Problem(
    "CZ-ACCESS-005",
    "No access to this Teamspace",
    "The user, the device or the API key has no access to the Teamspace: it was taken away, or never given.",
    5,
    403,
)

PROTOCOL = Problem("CZ-TUNNEL-001", "Protocol error", "The peer sent bytes that the protocol does not allow.", 8, 502)
TUNNEL_DOWN = Problem(
    "CZ-TUNNEL-002",
    "Teamspace not connected",
    "There is no tunnel to the Teamspace at the moment; it is being rebuilt.",
    8,
    503,
)
VERSIONS = Problem(
    "CZ-TUNNEL-003", "Versions too far apart", "The two ends share no protocol version; upgrade the older one.", 3, 426
)
UNREACHABLE = Problem("CZ-TUNNEL-004", "Teamspace unreachable", "The Teamspace's address did not answer.", 8, 503)

NOT_RUNNING = Problem("CZ-AGENT-001", "Codezero is not running", "The Daemon does not run on this machine.", 1, 503)
NO_TEAMSPACE = Problem("CZ-AGENT-002", "No Teamspace selected", "The Daemon has no Teamspace to connect to.", 3, 409)
NOT_YOURS = Problem("CZ-AGENT-003", "Another user's Daemon", "The Daemon belongs to the user who started it.", 5, 403)
ALREADY_RUNNING = Problem(
    "CZ-AGENT-004", "Already running", "Another Supervisor holds the lock of this machine.", 7, 409
)
NEEDS_ROOT = Problem(
    "CZ-AGENT-005", "Needs root", "Names, addresses and packet capture are changed by root only.", 3, 403
)
UNSAFE_INSTALL = Problem(
    "CZ-AGENT-006",
    "Unsafe installation",
    "A file the root Daemon would run can be changed by somebody other than root, so it did not start.",
    3,
    500,
)
CRASH_LOOP = Problem(
    "CZ-AGENT-007",
    "Daemon keeps failing",
    "The Daemon failed five times in a minute; the machine was put back and it is not started again.",
    1,
    503,
)
HOST_CHANGE_FAILED = Problem(
    "CZ-AGENT-008",
    "Machine could not be changed",
    "A change to names, addresses or packet capture failed and was undone.",
    1,
    500,
)

SANDBOX_UNSUPPORTED = Problem(
    "CZ-SANDBOX-001",
    "Sandbox not possible here",
    "The kernel does not allow what the sandbox needs; the message names the switch.",
    3,
    500,
)
SANDBOX_NOT_RUNNING = Problem("CZ-SANDBOX-002", "No sandbox", "No sandbox of this user runs on this machine.", 6, 404)
SANDBOX_FAILED = Problem(
    "CZ-SANDBOX-003",
    "Sandbox did not start",
    "A part of the sandbox did not come up; the message names it and its log.",
    1,
    500,
)

CLUSTER_SETTINGS = Problem(
    "CZ-CLUSTER-001",
    "Cluster settings unusable",
    "The System found neither a service account nor a kubeconfig with which it can speak to the Kubernetes API.",
    3,
    500,
)
CLUSTER_REFUSED = Problem(
    "CZ-CLUSTER-002",
    "Cluster did not do it",
    "The Kubernetes API refused a request or did not answer; the message has its reason.",
    8,
    502,
)
NOT_INSTALLED = Problem(
    "CZ-CLUSTER-003", "No Teamspace there", "In that namespace of the cluster no Teamspace is installed.", 6, 404
)
IN_THE_WAY = Problem(
    "CZ-CLUSTER-004",
    "Something is in the way",
    "The cluster holds what `czctl` did not make under the names a Teamspace needs, such as a Helm release, or something is still served. Nothing was changed.",
    7,
    409,
)
NOT_READY = Problem(
    "CZ-CLUSTER-005",
    "Teamspace not ready",
    "The Teamspace is installed and a part of it does not work yet, or no more; the message names it and its reason.",
    8,
    503,
)
NO_ISSUER = Problem(
    "CZ-CLUSTER-006",
    "Keys of the Teamspace not here",
    "Access is given with the keys that lie on the machine from which the Teamspace was installed, never in its cluster.",
    3,
    404,
)
OLDER_CZCTL = Problem(
    "CZ-CLUSTER-007",
    "czctl is older than the Teamspace",
    "A newer `czctl` installed the Teamspace; this one would bring it back to its own version. Nothing was changed.",
    7,
    409,
)
SANDBOX_RUNNING = Problem(
    "CZ-SANDBOX-004", "Sandbox runs already", "A sandbox of that name runs, or is being started.", 7, 409
)

BAD_CONDITION = Problem(
    "CZ-SERVE-001",
    "Bad condition",
    "The condition of a serve could not be understood; the message names the part and the reason. Nothing was changed.",
    2,
    422,
)
HEADER_REFUSED = Problem(
    "CZ-SERVE-002",
    "Header cannot be a condition",
    "Headers that carry credentials, name the receiver or belong to one connection decide nothing about variants.",
    2,
    422,
)
CONDITION_TAKEN = Problem(
    "CZ-SERVE-003",
    "Condition is taken",
    "Somebody else's variant of the service already answers the requests that meet this condition.",
    7,
    409,
)
NOT_SERVABLE = Problem(
    "CZ-SERVE-004",
    "Service cannot be served",
    "The service is of a kind that cannot be rewired without harm to those who use it; the message says why. Nothing was changed.",
    3,
    409,
)
SERVE_UNKNOWN = Problem("CZ-SERVE-005", "No such serve", "Nobody serves that, or it has ended already.", 6, 404)
BAD_SERVE = Problem(
    "CZ-SERVE-006",
    "Bad serve",
    "Ports, expiry or another part of a serve could not be understood; the message names it. Nothing was changed.",
    2,
    422,
)
CONTESTED = Problem(
    "CZ-SERVE-007",
    "Service is contested",
    "Somebody else keeps writing the selector of the served service, so its traffic stays with the team's own pods.",
    7,
    409,
)
SERVE_FAILED = Problem(
    "CZ-SERVE-008",
    "Serve not in place yet",
    "The Teamspace could not rewire the service in time; it goes on trying, and traffic goes where it went before.",
    8,
    503,
)
FORGED = Problem(
    "CZ-SERVE-009",
    "Route not made by the System",
    "A route of a Serve object was not written by this Teamspace's System, so it is not followed.",
    5,
    403,
)
NOT_ENABLED = Problem(
    "CZ-SERVE-010",
    "Namespace not enabled for serving",
    "Services are served in the namespaces that the Teamspace's administrators have named for it. Nothing was changed.",
    3,
    403,
)

NOT_SIGNED_IN = Problem(
    "CZ-HUB-001",
    "Sign-in needed",
    "The Hub does not know who asks: the sign-in is missing, has expired or was ended.",
    4,
    401,
)
ROLE_FORBIDS = Problem(
    "CZ-HUB-002",
    "Not allowed by the role",
    "The role in the organization, or the scope of the API key, does not allow this.",
    5,
    403,
)
BAD_DATABASE = Problem("CZ-HUB-003", "Database not usable", "The Hub's database could not be opened.", 1, 503)
DATABASE_BUSY = Problem("CZ-HUB-004", "Database busy", "Others use the Hub's database; nothing was changed.", 8, 503)
BAD_MASTER_KEY = Problem(
    "CZ-HUB-005",
    "Master key does not fit",
    "The Hub's master key is missing, or is not the one that its database was made with.",
    1,
    503,
)
ALREADY_THERE = Problem(
    "CZ-HUB-006", "Already there", "Something of that name exists already; nothing was changed.", 7, 409
)
CHANGED_MEANWHILE = Problem(
    "CZ-HUB-007", "Changed meanwhile", "Somebody else changed it since it was read; nothing was changed.", 7, 412
)
TOO_MANY_REQUESTS = Problem("CZ-HUB-008", "Too many requests", "There were too many requests in a short time.", 8, 429)
SIGN_IN_REFUSED = Problem(
    "CZ-HUB-009", "Sign-in refused", "What was shown to sign in with is wrong, has expired, or was used before.", 4, 401
)
HUB_UNREACHABLE = Problem(
    "CZ-HUB-010", "Hub unreachable", "The Hub's address did not answer, or it is not a Hub.", 8, 503
)
LAST_OWNER = Problem("CZ-HUB-011", "Last owner", "An organization keeps at least one owner.", 7, 409)
HUB_NOT_BELIEVED = Problem(
    "CZ-HUB-012",
    "Hub not believed",
    "What answered at the Hub's address showed no certificate that this machine believes, so nothing was sent to it.",
    8,
    502,
)
BAD_HUB_URL = Problem(
    "CZ-HUB-013", "Bad address of a Hub", "A Hub is reached by https://; by http:// on this machine alone.", 2, 400
)
AUDIT_BROKEN = Problem(
    "CZ-HUB-030",
    "Audit was changed",
    "An entry of the audit is not the one that was written: somebody has changed, added or removed one beside the Hub.",
    1,
    500,
)
NO_HUB = Problem("CZ-HUB-014", "No Hub", "It is not known which Hub to ask.", 3, 409)
NOT_SELECTED = Problem(
    "CZ-HUB-015",
    "Nothing selected",
    "There are several organizations or Teamspaces, or none, and it was not said which is meant.",
    3,
    409,
)
CLOCK_WRONG = Problem(
    "CZ-HUB-016",
    "Clock is wrong",
    "The clocks of this machine and of the Hub differ so much that proofs and certificates of the one are no good to the other.",
    3,
    401,
)
NOT_VALID = Problem(
    "CZ-HUB-020",
    "Fields not valid",
    "A field of the request is missing, unknown or of a form that is not taken; the message names it. Nothing was changed.",
    2,
    422,
)
METHOD_UNKNOWN = Problem("CZ-HUB-021", "Method not taken", "The Hub has nothing for this method at this path.", 2, 405)
KEY_REUSED = Problem(
    "CZ-HUB-022",
    "Idempotency key used before",
    "The `Idempotency-Key` came with another request before. Nothing was changed.",
    2,
    422,
)
UNDER_WAY = Problem(
    "CZ-HUB-023",
    "First request has no answer yet",
    "A request with this `Idempotency-Key` is under way, or it broke off and may have been done.",
    7,
    409,
)
PROVIDER_AWAY = Problem(
    "CZ-HUB-024",
    "Identity provider away",
    "The identity provider did not answer, or not as OpenID Connect says. Who is signed in stays so.",
    8,
    502,
)
NOT_JOINED = Problem(
    "CZ-SPACE-001", "Join refused", "The Hub does not take this cluster as a Teamspace; the message says why.", 5, 403
)
NOT_CERTIFIED = Problem(
    "CZ-SPACE-002",
    "Teamspace not certified",
    "The Teamspace has not joined the Hub yet, or its address is not known yet.",
    3,
    409,
)
SUSPENDED = Problem("CZ-SPACE-003", "Teamspace suspended", "An administrator has suspended the Teamspace.", 5, 403)
SESSION_ENDED = Problem(
    "CZ-SPACE-005", "Session ended", "An administrator has ended the laptop's session with the Teamspace.", 5, 403
)
NO_OTHER_KEY = Problem(
    "CZ-SPACE-006",
    "No other key wanted",
    "The Hub signs the Teamspace's authority by its present key: nobody has asked it to make itself another one.",
    5,
    409,
)
SPACE_AWAY = Problem(
    "CZ-SPACE-004", "Teamspace away", "The Teamspace is not connected with the Hub at the moment.", 8, 503
)

BAD_POLICY = Problem(
    "CZ-POLICY-001",
    "Policy not understood",
    "A policy is not written as Cedar is; the message names line, column and reason. Nothing was changed.",
    2,
    422,
)
POLICY_NOT_IN_SCHEMA = Problem(
    "CZ-POLICY-002",
    "Policy speaks of what is not there",
    "A policy names a type, role, action or attribute that there is none of, or compares what cannot be equal. Nothing was changed.",
    2,
    422,
)
POLICY_NOT_KNOWN = Problem(
    "CZ-POLICY-003",
    "Policy uses what Teamspaces do not know",
    "Teamspaces know a part of Cedar, so that they can decide without it; the message names what they do not. Nothing was changed.",
    2,
    422,
)
BAD_POLICY_TEST = Problem(
    "CZ-POLICY-004",
    "Policy test not understood",
    "A comment that begins with @test is no test; the message names line and reason. Nothing was changed.",
    2,
    422,
)
POLICY_TEST_FAILED = Problem(
    "CZ-POLICY-005",
    "Policy test failed",
    "A test in the policy document expects another answer than its policies give, so the document was not saved.",
    2,
    422,
)
POLICY_TOO_LARGE = Problem(
    "CZ-POLICY-006",
    "Policy too large",
    "The document, a policy or its nesting is larger than the limit that the message names. Nothing was changed.",
    2,
    422,
)
POLICY_UNKNOWN = Problem(
    "CZ-POLICY-007", "No such policy version", "The Teamspace has no policy of that number.", 6, 404
)
POLICY_CHANGED = Problem(
    "CZ-POLICY-008",
    "Policy was changed in between",
    "Somebody else has saved the policy since it was read. Nothing was changed.",
    7,
    412,
)
BUNDLE_TOO_LARGE = Problem(
    "CZ-POLICY-009",
    "Too much for a Teamspace",
    "Members and policies of a Teamspace together are more than its cluster can keep.",
    1,
    500,
)

CONSOLE_CLOSED = Problem(
    "CZ-CONSOLE-001",
    "Local console not opened",
    "The local console lets in the page that was opened with its one-time code, until that console ends.",
    4,
    401,
)
CONSOLE_FOREIGN = Problem(
    "CZ-CONSOLE-002",
    "Not the local console's page",
    "The local console answers its own page in its user's browser; requests of other pages, names and users are refused.",
    5,
    403,
)

PAGE_NOT_PAIRED = Problem(
    "CZ-PAIR-001",
    "Page not paired",
    "A machine answers the pages that were paired with it, each request signed by the page's own key.",
    4,
    401,
)
PAGE_MAY_NOT = Problem(
    "CZ-PAIR-002",
    "Not for a paired page",
    "What a paired page may ask of a machine is a closed list; a pairing that only reads changes nothing.",
    5,
    403,
)
PAIRING_CLOSED = Problem(
    "CZ-PAIR-003",
    "Pairing not open",
    "A page is paired with the one-time code of `czctl pair`, while that waits for it.",
    4,
    403,
)
CONFIRM_ON_MACHINE = Problem(
    "CZ-PAIR-004",
    "To be confirmed on the machine",
    "What touches the requests of others, moves the machine, or answers from a port of it for the first time, is confirmed in a terminal there before it is done for a page.",
    5,
    403,
)
MACHINE_AWAY = Problem(
    "CZ-PAIR-005",
    "Machine not connected to the Hub",
    "The machine keeps no connection to the Hub by which a page could reach it.",
    8,
    503,
)
RELAY_OFF = Problem(
    "CZ-PAIR-006",
    "Relay switched off",
    "Pages do not reach machines through the Hub: whoever runs the Hub, or the machine's own user, has switched that off.",
    5,
    403,
)

ALL: dict[str, Problem] = {value.code: value for value in list(globals().values()) if isinstance(value, Problem)}

"""What Codezero can do for a person: each capability once, with the operations that do it, the command of czctl, and the page of the GUI.

A test holds this against the APIs, czctl and the GUI: what is added to one of them and not here fails it. The reference page is made from it.

Operations are `METHOD /path`: below `/api/v1` the Hub's, below `/v1` the agent's (`wire.local_api`), below `/console` those of the local console,
below `/paired/v1` those of this machine for paired pages (`wire.paired`).
Pages are paths of the GUI's router, below `/ui`; `HUB_PAGES` are forms that the Hub answers itself, for those who are not signed in yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_ORGANIZATION: Final = "/api/v1/organizations/{organization}"
_SPACE: Final = _ORGANIZATION + "/spaces/{space}"
_MACHINE: Final = "/machine"
_OWN: Final = "/o/$org"
_ONE: Final = _OWN + "/spaces/$space"

# Forms of the Hub that need no GUI. They do what the operations of the same name do.
HUB_PAGES: Final = ("/sign-in", "/first-owner", "/invitation", "/device", "/new-password")


def _nothing() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that somebody can do. `does` says it in a sentence.

    Where one of the three is missing, the reason stands beside it. `unasked` are operations that the page does not ask itself, each with why not.
    """

    name: str
    does: str
    operations: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    no_operation: str = ""
    no_command: str = ""
    no_page: str = ""
    unasked: Mapping[str, str] = field(default_factory=_nothing)


def _in_both(page: str) -> tuple[str, ...]:
    """A page of a Teamspace, once as the Hub sees it and once as the agent of this machine does."""
    return (f"{_ONE}/{page}", f"{_MACHINE}/{page}")


_BY_FORM: Final = "the Hub's own form does the same, before there is a session that could ask"
_ONCE: Final = "done once in a while by somebody who has the page open; scripts ask the API"

AGENT: Final = (
    Capability(
        "agent.start",
        "Start the agent of this machine, which connects it to its Teamspace.",
        ("POST /console/agent/start",),
        ("start",),
        (_MACHINE,),
    ),
    Capability(
        "agent.stop",
        "Stop the agent, and put the machine back as it was.",
        ("POST /console/agent/stop", "POST /v1/shutdown"),
        ("stop", "restart"),
        (_MACHINE,),
        unasked={
            "POST /v1/shutdown": "the console stops the agent as czctl does, and waits until the machine is as it was"
        },
    ),
    Capability(
        "agent.status",
        "See how agent, tunnel and machine are, and what to do about what is wrong.",
        ("GET /v1/status",),
        ("status",),
        (_MACHINE,),
    ),
    Capability(
        "agent.reset",
        "End everything that this machine consumes and serves.",
        ("POST /v1/reset",),
        ("reset",),
        (_MACHINE,),
    ),
    Capability(
        "agent.teamspace.select",
        "Select the Teamspace of this machine; a running agent goes there.",
        ("POST /console/teamspace", "GET /console/teamspace", "PUT /v1/teamspace", f"POST {_SPACE}/access"),
        ("space select",),
        (_ONE,),
        unasked={
            "GET /console/teamspace": "the agent tells where it is; what is selected beyond that matters to the console alone",
            "PUT /v1/teamspace": "it takes keys, which are not for a page: the console gives them to the agent",
            f"POST {_SPACE}/access": "it is about a key of this machine: the console asks for the page",
        },
    ),
    Capability(
        "agent.teamspace.leave",
        "Let this machine leave its Teamspace.",
        ("DELETE /v1/teamspace",),
        ("auth logout",),
        (_MACHINE,),
    ),
)

PAIRING: Final = (
    Capability(
        "pairing.make",
        "Pair the Hub's page in a browser with this machine, so that it uses the agent directly or through the Hub.",
        ("POST /paired/v1/pairings",),
        ("pair",),
        ("/pair",),
    ),
    Capability(
        "pairing.list",
        "See which pages are paired with this machine, and by which ways they reach it.",
        ("GET /paired/v1/pairings",),
        ("pairing list",),
        (_MACHINE,),
    ),
    Capability(
        "pairing.revoke",
        "Let a page ask nothing of this machine any more.",
        ("POST /paired/v1/pairings/revoke",),
        ("pairing revoke",),
        (_MACHINE,),
    ),
    Capability(
        "pairing.confirm",
        "Say yes or no to what a paired page asks, where it touches others, moves the machine, or serves from a port of it for the first time.",
        (),
        ("confirm",),
        (),
        no_operation="what a page could ask for, a program in that page could, too",
        no_page="the page shows the command, and what is asked is confirmed in a terminal of the machine",
    ),
)

CATALOG: Final = (
    Capability(
        "services.list",
        "See the services of a Teamspace, their health, and who serves variants of them.",
        ("GET /v1/services", f"GET {_SPACE}/catalog"),
        ("services list",),
        (*_in_both("catalog"), *_in_both("graph")),
    ),
    Capability(
        "consume.list",
        "See the consume rules and what they let in.",
        ("GET /v1/consume",),
        ("consume list", "consume view"),
        _in_both("catalog"),
    ),
    Capability(
        "consume.change",
        "Consume services, all services or none, by rules.",
        ("PUT /v1/consume",),
        ("consume apply", "consume edit", "consume all", "consume clear"),
        _in_both("catalog"),
    ),
    Capability(
        "consume.test",
        "See what rules would let in, with nothing changed.",
        ("POST /v1/consume/test",),
        ("consume test",),
        _in_both("catalog"),
    ),
    Capability(
        "consume.primary-namespace",
        "Choose the namespace whose services answer to their bare names, or none.",
        ("PUT /v1/primary-namespace",),
        ("primary-namespace select", "primary-namespace clear"),
        _in_both("catalog"),
    ),
    Capability(
        "serve.list",
        "See what this machine serves, or what everybody serves.",
        ("GET /v1/serve", f"GET {_SPACE}/serves"),
        ("serve list",),
        (*_in_both("catalog"), *_in_both("people")),
    ),
    Capability(
        "serve.start",
        "Serve a service by a process of this machine, by a condition; take over, mirror, or look first.",
        ("POST /v1/serve",),
        ("serve",),
        _in_both("catalog"),
    ),
    Capability(
        "serve.end",
        "End variants of this machine, or with a reason those of somebody else.",
        ("POST /v1/serve/end", f"DELETE {_SPACE}/serves/{{serve}}"),
        ("serve end",),
        (*_in_both("catalog"), *_in_both("people")),
    ),
)

LIVE: Final = (
    Capability(
        "people.list",
        "See which laptops are connected, and what each consumes and serves.",
        ("GET /v1/presence", f"GET {_SPACE}/presence"),
        ("who",),
        _in_both("people"),
    ),
    Capability(
        "sessions.list",
        "See the sessions of a Teamspace.",
        (f"GET {_SPACE}/sessions",),
        ("sessions list",),
        (f"{_ONE}/people",),
    ),
    Capability(
        "sessions.end",
        "End a laptop's session, with a reason.",
        (f"DELETE {_SPACE}/sessions/{{session}}",),
        ("sessions end",),
        (f"{_ONE}/people",),
    ),
    Capability(
        "activity.list",
        "See what happened in a Teamspace lately: who came, left, served and ended.",
        ("GET /v1/activity", f"GET {_SPACE}/activity"),
        (),
        _in_both("activity"),
        no_command="`czctl who` shows how it is now, and `czctl audit list` what was done",
    ),
    Capability(
        "trace.requests",
        "See the requests and connections of this machine as they end, hop by hop.",
        ("GET /v1/traces",),
        ("trace-connections",),
        (f"{_MACHINE}/activity",),
    ),
)

SPACES: Final = (
    Capability(
        "space.list",
        "See the Teamspaces of an organization.",
        (f"GET {_ORGANIZATION}/spaces",),
        ("space list",),
        (f"{_OWN}/spaces",),
    ),
    Capability(
        "space.create",
        "Make a Teamspace, and see how a cluster becomes it.",
        (f"POST {_ORGANIZATION}/spaces",),
        ("space create",),
        (f"{_OWN}/spaces",),
    ),
    Capability("space.show", "See how a Teamspace is.", (f"GET {_SPACE}",), ("space status",), (_ONE,)),
    Capability(
        "space.join-token",
        "Make a new join token, for a cluster that becomes this Teamspace anew.",
        (f"POST {_SPACE}/join-token",),
        ("space join-token",),
        (_ONE,),
    ),
    Capability("space.rename", "Give a Teamspace another name.", (f"PATCH {_SPACE}",), (), (_ONE,), no_command=_ONCE),
    Capability(
        "space.suspend", "Let nobody use a Teamspace for now.", (f"POST {_SPACE}/suspend",), ("space suspend",), (_ONE,)
    ),
    Capability(
        "space.resume",
        "Let everybody use a suspended Teamspace again.",
        (f"POST {_SPACE}/resume",),
        ("space resume",),
        (_ONE,),
    ),
    Capability(
        "space.rotate", "Let a Teamspace make itself new keys.", (f"POST {_SPACE}/rotate",), ("space rotate",), (_ONE,)
    ),
    Capability("space.remove", "Remove a Teamspace from the Hub.", (f"DELETE {_SPACE}",), ("space remove",), (_ONE,)),
    Capability(
        "space.token",
        "Make a token for simple clients, which speak CONNECT.",
        (f"POST {_SPACE}/token",),
        ("space token",),
        (_ONE,),
    ),
    Capability(
        "hub.version",
        "See which release runs.",
        ("GET /api/v1/version",),
        ("version",),
        (_ONE,),
    ),
)

POLICY: Final = (
    Capability(
        "policy.show", "Read the policy in force.", (f"GET {_SPACE}/policy",), ("policy show",), (f"{_ONE}/policy",)
    ),
    Capability(
        "policy.save",
        "Put another policy in force, if its tests pass.",
        (f"PUT {_SPACE}/policy",),
        ("policy apply", "policy edit"),
        (f"{_ONE}/policy",),
    ),
    Capability(
        "policy.check",
        "Check a policy and run its tests, with nothing changed.",
        (f"POST {_SPACE}/policy/check",),
        ("policy test",),
        (f"{_ONE}/policy",),
    ),
    Capability(
        "policy.versions",
        "See all versions of the policy, and what changed between them.",
        (f"GET {_SPACE}/policy/versions", f"GET {_SPACE}/policy/versions/{{number}}"),
        ("policy versions", "policy diff"),
        (f"{_ONE}/policy",),
    ),
    Capability(
        "policy.rollback",
        "Put an earlier version of the policy in force again.",
        (f"POST {_SPACE}/policy/rollback",),
        ("policy rollback",),
        (f"{_ONE}/policy",),
    ),
    Capability(
        "policy.explain",
        "Ask whether the policy lets you, or somebody else, do something, and why.",
        (f"POST {_SPACE}/can-i",),
        ("policy explain", "auth can-i"),
        (f"{_ONE}/policy",),
    ),
)

PEOPLE: Final = (
    Capability(
        "organization.list",
        "See the organizations you are in, and choose one.",
        ("GET /api/v1/organizations",),
        ("organization list", "organization select"),
        ("/",),
        unasked={
            "GET /api/v1/organizations": "who looks and their organizations come in one answer: `GET /api/v1/auth/me`"
        },
    ),
    Capability(
        "organization.create",
        "Make an organization, which you own.",
        ("POST /api/v1/organizations",),
        ("organization create",),
        ("/account",),
    ),
    Capability(
        "organization.show",
        "See an organization.",
        (f"GET {_ORGANIZATION}",),
        (),
        (f"{_OWN}/settings",),
        no_command=_ONCE,
    ),
    Capability(
        "organization.rename",
        "Give an organization another name.",
        (f"PATCH {_ORGANIZATION}",),
        (),
        (f"{_OWN}/settings",),
        no_command=_ONCE,
    ),
    Capability(
        "organization.remove",
        "Remove an organization and all that is in it.",
        (f"DELETE {_ORGANIZATION}",),
        (),
        (f"{_OWN}/settings",),
        no_command="too much for one line of a script; the page asks for its name first",
    ),
    Capability(
        "member.list",
        "See the members of an organization, and what each of them is in it.",
        (f"GET {_ORGANIZATION}/members", f"GET {_ORGANIZATION}/members/{{user}}"),
        ("organization members",),
        (f"{_OWN}/members",),
        unasked={f"GET {_ORGANIZATION}/members/{{user}}": "the list has all there is of each"},
    ),
    Capability(
        "member.role",
        "Give a member another role.",
        (f"PATCH {_ORGANIZATION}/members/{{user}}",),
        ("organization role",),
        (f"{_OWN}/members",),
    ),
    Capability(
        "member.remove",
        "Take a member out, or leave.",
        (f"DELETE {_ORGANIZATION}/members/{{user}}",),
        ("organization remove",),
        (f"{_OWN}/members",),
    ),
    Capability(
        "invitation.create",
        "Invite somebody, by a link that is good once.",
        (f"POST {_ORGANIZATION}/invitations",),
        ("organization invite",),
        (f"{_OWN}/members",),
    ),
    Capability(
        "invitation.list",
        "See who is invited and has not come yet.",
        (f"GET {_ORGANIZATION}/invitations",),
        ("organization members",),
        (f"{_OWN}/members",),
    ),
    Capability(
        "invitation.withdraw",
        "Take an invitation back.",
        (f"DELETE {_ORGANIZATION}/invitations/{{invitation}}",),
        ("organization invite",),
        (f"{_OWN}/members",),
    ),
    Capability(
        "invitation.accept",
        "Accept an invitation.",
        ("POST /api/v1/invitations/accept",),
        (),
        ("/invitation",),
        no_command="the link that one is given opens the page",
        unasked={"POST /api/v1/invitations/accept": _BY_FORM},
    ),
)

MACHINES: Final = (
    Capability(
        "apikey.list",
        "See the API keys of an organization.",
        (f"GET {_ORGANIZATION}/apikeys",),
        ("apikey list",),
        (f"{_OWN}/apikeys",),
    ),
    Capability(
        "apikey.create",
        "Make an API key, which is shown once.",
        (f"POST {_ORGANIZATION}/apikeys",),
        ("apikey create",),
        (f"{_OWN}/apikeys",),
    ),
    Capability(
        "apikey.revoke",
        "End an API key.",
        (f"DELETE {_ORGANIZATION}/apikeys/{{key}}",),
        ("apikey revoke",),
        (f"{_OWN}/apikeys",),
    ),
    Capability(
        "service-account.list",
        "See the service accounts of an organization.",
        (f"GET {_ORGANIZATION}/service-accounts",),
        (),
        (f"{_OWN}/apikeys",),
        no_command="`czctl apikey list` names the account of each key",
    ),
    Capability(
        "service-account.create",
        "Make a service account, for keys to come.",
        (f"POST {_ORGANIZATION}/service-accounts",),
        ("apikey create",),
        (f"{_OWN}/apikeys",),
    ),
    Capability(
        "service-account.remove",
        "Remove a service account with all its keys.",
        (f"DELETE {_ORGANIZATION}/service-accounts/{{account}}",),
        (),
        (f"{_OWN}/apikeys",),
        no_command=_ONCE,
    ),
    Capability(
        "device.list",
        "See your machines, or those of an organization's members.",
        ("GET /api/v1/devices", f"GET {_ORGANIZATION}/devices"),
        ("device list",),
        ("/account", f"{_OWN}/devices"),
    ),
    Capability(
        "device.revoke",
        "End the sign-in of a machine for good.",
        ("DELETE /api/v1/devices/{device}",),
        ("device revoke",),
        ("/account", f"{_OWN}/devices"),
    ),
)

AUDIT: Final = (
    Capability(
        "audit.list",
        "See what was done, by whom, and what came of it.",
        (f"GET {_ORGANIZATION}/audit",),
        ("audit list",),
        (f"{_OWN}/audit",),
    ),
    Capability(
        "audit.export",
        "Take all entries of the audit along.",
        (f"GET {_ORGANIZATION}/audit/export",),
        ("audit export",),
        (f"{_OWN}/audit",),
    ),
    Capability(
        "audit.verify",
        "Check that no entry was changed or taken out.",
        (f"POST {_ORGANIZATION}/audit/verify",),
        ("audit verify",),
        (f"{_OWN}/audit",),
    ),
)

ACCOUNT: Final = (
    Capability(
        "auth.first-owner",
        "Become the first owner of a new Hub.",
        ("POST /api/v1/auth/first-owner",),
        (),
        ("/first-owner",),
        no_command="the link that `czhub` prints opens the page",
        unasked={"POST /api/v1/auth/first-owner": _BY_FORM},
    ),
    Capability(
        "auth.sign-in",
        "Sign in to the Hub, by password or by an identity provider.",
        ("POST /api/v1/auth/login", "GET /api/v1/auth/providers"),
        ("auth login",),
        ("/sign-in", "/account"),
        unasked={"POST /api/v1/auth/login": _BY_FORM},
    ),
    Capability(
        "auth.machine",
        "Let a machine in that asks for it by a code or by a page of the browser.",
        ("POST /api/v1/auth/device-code",),
        ("auth login",),
        ("/device",),
        unasked={"POST /api/v1/auth/device-code": "czctl asks for the code; the page takes it"},
    ),
    Capability(
        "auth.password.forgotten",
        "Choose a new password by a link from whoever runs the Hub.",
        (),
        (),
        ("/new-password",),
        no_operation="the link is a secret of its form alone",
        no_command="whoever runs the Hub makes the link by `czhub password-link`",
    ),
    Capability(
        "auth.whoami", "See who is signed in, and where.", ("GET /api/v1/auth/me",), ("auth status",), ("/account",)
    ),
    Capability(
        "auth.sign-out",
        "Sign out.",
        ("POST /api/v1/auth/logout",),
        ("auth logout",),
        ("/",),
    ),
    Capability(
        "auth.password",
        "Change your password.",
        ("POST /api/v1/auth/password",),
        (),
        ("/account",),
        no_command="czctl knows no password, and is not to",
    ),
    Capability(
        "auth.sessions.list",
        "See where you are signed in by a browser.",
        ("GET /api/v1/auth/sessions",),
        (),
        ("/account",),
        no_command="about browsers; machines are in `czctl device list`",
    ),
    Capability(
        "auth.sessions.end",
        "End a session of a browser of yours.",
        ("DELETE /api/v1/auth/sessions/{session}",),
        (),
        ("/account",),
        no_command="about browsers; machines end by `czctl device revoke`",
    ),
    Capability(
        "auth.sign-out-everywhere",
        "End all your sessions and machines at once.",
        ("POST /api/v1/auth/sign-out-everywhere",),
        (),
        ("/account",),
        no_command="it ends the sign-in of czctl, too",
    ),
    Capability(
        "auth.link",
        "Link your account to an identity provider.",
        ("POST /api/v1/auth/oidc/{provider}/link",),
        (),
        ("/account",),
        no_command="the provider asks in a browser",
    ),
)

# By what they are about, in the order in which people meet them.
GROUPS: Final[Mapping[str, tuple[Capability, ...]]] = {
    "Account": ACCOUNT,
    "This machine": AGENT,
    "Paired pages": PAIRING,
    "Catalog": CATALOG,
    "People and activity": LIVE,
    "Teamspaces": SPACES,
    "Policy": POLICY,
    "Organizations and members": PEOPLE,
    "API keys and machines": MACHINES,
    "Audit": AUDIT,
}
ALL: Final[tuple[Capability, ...]] = tuple(one for group in GROUPS.values() for one in group)

# Operations by which machines and programs speak: no capability of a person.
MACHINE_OPERATIONS: Final[Mapping[str, str]] = {
    "POST /api/v1/auth/token": "czctl gets and renews its tokens",
    "GET /.well-known/jwks.json": "the keys by which Teamspaces check tokens",
    "GET /.well-known/audit-jwks.json": "the keys by which an exported audit is checked",
    "GET /.well-known/oauth-authorization-server": "where programs find the endpoints for sign-in",
    "POST /api/v1/devices/{device}/certificate": "the agent renews its certificate",
    "POST /api/v1/events/tickets": "a page gets into its stream of changes",
    "GET /api/v1/machines": "a page finds out whether it reaches its machine through the Hub",
    "POST /api/v1/machines/{machine}/ask": "a page asks its machine through the Hub for what is a capability of the agent",
    "POST /api/v1/teamspaces/join": "a cluster becomes its Teamspace",
    "POST /api/v1/teamspaces/{space}/certificate": "a Teamspace renews its certificate",
    "POST /api/v1/teamspaces/{space}/leave": "a Teamspace that is uninstalled says so",
    "GET /v1/events": "a page or program hears what changed, and reads it anew",
    "POST /console/session": "the page of the console shows its one-time code",
}

_WITH_KUBECONFIG: Final = (
    "works on a cluster with a kubeconfig, also where there is no Hub; the page shows the command to type"
)
_SANDBOX: Final = "a cluster to try things in, on one's own machine"
_AS_ROOT: Final = "changes what root owns on this machine, so it asks for a password in a terminal"

# Commands that need no page.
TERMINAL_COMMANDS: Final[Mapping[str, str]] = {
    **{
        f"teamspace {name}": _WITH_KUBECONFIG
        for name in ("access", "identity", "install", "repair", "status", "token", "uninstall", "upgrade")
    },
    **{f"sandbox {name}": _SANDBOX for name in ("down", "shell", "sign-in", "status", "up")},
    **{f"daemon {name}": _AS_ROOT for name in ("check", "install", "uninstall")},
    "cleanup": "for a machine whose agent does not answer any more, and then no page does",
    "auth token": "for programs; a page shows no token of its user",
    "ui": "opens the page",
    "explain": "the page shows each problem with its code and the next step",
    "completion": "for shells",
}

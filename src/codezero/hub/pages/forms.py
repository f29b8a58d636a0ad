"""What each page says and asks. Values in, markup out."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

from codezero.hub.pages.markup import Markup, joined, markup
from codezero.hub.signin import passwords
from codezero.hub.signin.authorization import Asked
from codezero.hub.signin.device_flow import Waiting
from codezero.hub.signin.providers import Provider
from codezero.hub.storage.tables import User
from codezero.model.problems import CodezeroError

_NEW_PASSWORD = markup(
    """<label for="password">Password <span class="hint">{least} characters or more, such as a few words</span></label>
<input id="password" name="password" type="password" autocomplete="new-password" required minlength="{least}" maxlength="{most}">""",
    least=passwords.LEAST,
    most=passwords.MOST,
)
_NAME = Markup(
    """<label for="name">Your name</label>
<input id="name" name="name" autocomplete="name" required maxlength="200">"""
)


def sign_in(providers: Sequence[Provider], *, return_to: str, email: str = "") -> Markup:
    """Sign in by password or provider."""
    links = [
        markup(
            '<a class="button" href="/api/v1/auth/oidc/{name}/start?{query}">Sign in with {title}</a>',
            name=provider.name,
            title=provider.settings.title,
            query=urlencode({"return_to": return_to}),
        )
        for provider in providers
    ]
    form = markup(
        """<form method="post" action="/sign-in">
<input type="hidden" name="return_to" value="{return_to}">
<label for="email">E-mail address</label>
<input id="email" name="email" type="email" autocomplete="username" required maxlength="254" value="{email}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="{most}">
<button class="main">Sign in</button>
</form>""",
        return_to=return_to,
        email=email,
        most=passwords.MOST,
    )
    return joined([form, *links])


def signed_in(user: User, *, csrf: str, gui: str | None) -> Markup:
    """Somebody is signed in already; `gui` is where they go on."""
    return markup(
        """<p>You are signed in as {who}.</p>
{onward}
<p><a href="/device">Type a code that <code>czctl auth login</code> shows</a></p>
<form method="post" action="/sign-out">
<input type="hidden" name="csrf" value="{csrf}">
<button>Sign out</button>
</form>""",
        who=_who(user),
        onward=Markup() if gui is None else markup('<a class="button main" href="{gui}">Open Codezero</a>', gui=gui),
        csrf=csrf,
    )


def first_owner(*, token: str, email: str = "", name: str = "", organization: str = "") -> Markup:
    """Make the first person and their organization."""
    return markup(
        """<p>This Hub has no people yet. You become the owner of its first organization.</p>
<form method="post" action="/first-owner">
<input type="hidden" name="token" value="{token}">
<label for="organization">Organization</label>
<input id="organization" name="organization" autocomplete="organization" required maxlength="200" value="{organization}">
<label for="name">Your name</label>
<input id="name" name="name" autocomplete="name" required maxlength="200" value="{name}">
<label for="email">Your e-mail address</label>
<input id="email" name="email" type="email" autocomplete="username" required maxlength="254" value="{email}">
{password}
<button class="main">Begin</button>
</form>""",
        token=token,
        email=email,
        name=name,
        organization=organization,
        password=_NEW_PASSWORD,
    )


def new_password(*, token: str) -> Markup:
    """Set a password by a link."""
    return markup(
        """<p>Everything that is signed in as you ends with it.</p>
<form method="post" action="/new-password">
<input type="hidden" name="token" value="{token}">
{password}
<button class="main">Set the password</button>
</form>""",
        token=token,
        password=_NEW_PASSWORD,
    )


def invitation(*, token: str, organization: str, email: str, role: str, is_known: bool, csrf: str | None) -> Markup:
    """Accept an invitation: as whoever is signed in, or as a new person."""
    if csrf is None and is_known:
        back = urlencode({"return_to": f"/invitation?{urlencode({'token': token})}"})
        return markup(
            """<p>{email} is invited to {organization} as {role}, and is known here already.</p>
<a class="button" href="/sign-in?{back}">Sign in to accept</a>""",
            email=email,
            organization=organization,
            role=role,
            back=back,
        )
    return markup(
        """<p>{email} is invited to {organization} as {role}.</p>
<form method="post" action="/invitation">
<input type="hidden" name="token" value="{token}">
{rest}
<button class="main">Accept</button>
</form>""",
        email=email,
        organization=organization,
        role=role,
        token=token,
        rest=joined([_NAME, _NEW_PASSWORD])
        if csrf is None
        else markup('<input type="hidden" name="csrf" value="{csrf}">', csrf=csrf),
    )


def approve(user: User, asked: Asked, *, csrf: str, address: str | None) -> Markup:
    """Let czctl on this machine sign in."""
    return markup(
        """<p><code>czctl</code> on this machine wants to sign in as {who}.</p>
<dl>
<dt>Machine</dt><dd>{device}</dd>
<dt>Asks from</dt><dd>{address}</dd>
</dl>
<p>Approve only if you have just run <code>czctl auth login</code> yourself.</p>
<form method="post" action="/api/v1/auth/authorize">
<input type="hidden" name="csrf" value="{csrf}">
<input type="hidden" name="client_id" value="czctl">
<input type="hidden" name="redirect_uri" value="{redirect_uri}">
<input type="hidden" name="state" value="{state}">
<input type="hidden" name="code_challenge" value="{challenge}">
<input type="hidden" name="code_challenge_method" value="S256">
<input type="hidden" name="device_name" value="{device}">
<button class="main" name="answer" value="approve">Approve</button>
<button name="answer" value="deny">Deny</button>
</form>""",
        who=_who(user),
        device=asked.device_name,
        address=address or "unknown",
        csrf=csrf,
        redirect_uri=asked.redirect_uri,
        state=asked.state,
        challenge=asked.challenge,
    )


def device(user: User, *, csrf: str) -> Markup:
    """Type the code that a machine shows."""
    return markup(
        """<p>You are signed in as {who}.</p>
<form method="post" action="/device">
<input type="hidden" name="csrf" value="{csrf}">
<label for="user_code">Code <span class="hint">that czctl auth login shows on your own machine. Never type one that somebody sent you.</span></label>
<input id="user_code" name="user_code" class="code" autocomplete="off" autocapitalize="characters" spellcheck="false" required maxlength="20">
<button class="main">Go on</button>
</form>""",
        who=_who(user),
        csrf=csrf,
    )


def device_waiting(
    user: User, waiting: Waiting, *, csrf: str, user_code: str, address: str | None, now: datetime
) -> Markup:
    """Let that machine in, or not."""
    is_elsewhere = waiting.address != address
    warning = Markup(
        '<p class="alert"><strong>It asks from another address than yours.</strong> That is so for a server; for a laptop beside you it is not.</p>'
    )
    return markup(
        """<p>This machine wants to sign in as {who}, and could then do all that you can.</p>
<dl>
<dt>Machine</dt><dd>{device}</dd>
<dt>Asks from</dt><dd>{address}</dd>
<dt>Since</dt><dd>{age}</dd>
</dl>
{warning}
<form method="post" action="/device">
<input type="hidden" name="csrf" value="{csrf}">
<input type="hidden" name="user_code" value="{user_code}">
<button class="main" name="answer" value="approve">Approve</button>
<button name="answer" value="deny">Deny</button>
</form>""",
        who=_who(user),
        device=waiting.device_name,
        address=waiting.address or "unknown",
        age=_age(now - waiting.asked_at),
        warning=warning if is_elsewhere else Markup(),
        csrf=csrf,
        user_code=user_code,
    )


def said(text: str) -> Markup:
    """A sentence."""
    return markup("<p>{text}</p>", text=text)


def alert(error: CodezeroError) -> Markup:
    """What went wrong, and what to do."""
    return markup(
        '<p class="alert" role="alert"><strong>{detail}.</strong> {fix} <small>{code}</small></p>',
        detail=error.detail[:1].upper() + error.detail[1:],
        fix="" if error.fix is None else error.fix[:1].upper() + error.fix[1:] + ".",
        code=error.problem.code,
    )


def _who(user: User) -> Markup:
    return markup("<strong>{name}</strong> ({email})", name=user.name, email=user.email or "no address")


def _age(age: timedelta) -> str:
    minutes, seconds = divmod(max(0, int(age.total_seconds())), 60)
    return f"{minutes} min {seconds} s ago" if minutes else f"{seconds} s ago"

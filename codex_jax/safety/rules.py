r"""The rules: what each one redacts, with texts it must and must not touch.

Patterns are RE2 (linear time on any text; no look-around, `\b` and `\d` are ASCII). Where a pattern has a group, the
group is what is redacted and the rest is context. The examples are put together from parts, so that this file itself
holds nothing that looks like a secret; a test tries every one.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """One kind of thing to redact."""

    name: str
    pattern: str
    finds: tuple[str, ...]
    """texts that hold it"""
    spares: tuple[str, ...]
    """texts that look like it and must stay as they are"""
    harmless: str = r"[^\s\S]"
    """a finding that this matches as a whole is let be; by default none"""


def _pem(label: str, newline: str, headers: str = "") -> str:
    body = newline.join(["MIIEpAIBAAKCAQEAx7Vq0B4y" * 2] * 4 + ["ab=="])
    return f"-----BEGIN {label}-----{newline}{headers}{body}{newline}-----END {label}-----"


# What stands between the runs of base64 of a key: blanks, escapes as written in source code, quotes, comment marks.
_GAP = r"(?:\s|\\[nrt\\]|b?[\"'`]|[,+#*>|()\\])*"
_RUN = r"[A-Za-z0-9+/]{20,}={0,2}"
_BODY = rf"{_RUN}(?:{_GAP}{_RUN})*(?:{_GAP}[A-Za-z0-9+/=]+){{0,2}}"
_LABEL = r"(?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
_HEADERS = rf"(?:{_GAP}(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash): ?[^\n\\\"]*)*"
_END = rf"{_GAP}-----END {_LABEL}"

# Endings of a host: every country (two letters) and the usual generic ones. A longer list would take the attribute in
# `x@layer.weight` for a host.
_TOP = (
    "(?i:com|org|net|edu|gov|mil|int|info|biz|dev|app|xyz|online|site|shop|cloud|tech|email|museum|aero|coop|jobs|mobi"
    "|travel|example|xn--[a-z0-9-]+)|[A-Za-z]{2}"
)

RULES = (
    Rule(
        "private-key",
        # A whole block, or, where a document was cut within one, its beginning or its end.
        rf"-----BEGIN {_LABEL}{_HEADERS}{_GAP}{_BODY}(?:{_END})?|{_BODY}{_END}",
        (
            _pem("RSA PRIVATE KEY", "\n"),
            _pem("OPENSSH PRIVATE KEY", "\r\n"),
            _pem("EC PRIVATE KEY", "\n", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n"),
            _pem("PGP PRIVATE KEY BLOCK", "\n", "Version: GnuPG v2\n\n"),
            'key = "' + _pem("PRIVATE KEY", "\\n") + '"',
            _pem("PRIVATE KEY", "\n").partition("-----END")[0],
            _pem("PRIVATE KEY", "\n").rpartition("BEGIN PRIVATE KEY-----\n")[2],
        ),
        (
            _pem("CERTIFICATE", "\n"),
            _pem("PUBLIC KEY", "\n"),
            "if line == '-----BEGIN PRIVATE KEY-----':\n    state = READING",
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        ),
    ),
    Rule(
        "aws-key",
        r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b|(?i:aws_?secret_?(?:access_?)?key)[\"']?\s*(?:=|:|=>)\s*[\"']?([A-Za-z0-9/+=]{40})",
        ("AKIA" + "IOSFODNN7EXAMPLE", "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"),
        ("AKIA", "AKIAIOSFODNN7", "xAKIAIOSFODNN7EXAMPLE", "aws_secret_access_key = os.environ['KEY']"),
    ),
    Rule(
        "github-token",
        r"\b(?:gh[opsur]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b",
        ("ghp_" + "a1B2" * 9, "ghs_" + "Z9y8" * 9, "github_pat_" + "A1" * 11 + "_" + "b" * 59),
        ("ghp_" + "a" * 35, "ghp_token", "github_pat_example"),
    ),
    Rule(
        "gitlab-token",
        r"\bgl(?:pat|dt|rt|ptt|oas|cbt|agent|soat)-[A-Za-z0-9_-]{20,}",
        ("glpat-" + "xY3_" * 5, "glrt-" + "a-B1" * 5),
        ("glpat-short", "glob-pattern-of-many-words-here"),
    ),
    Rule(
        "slack-token",
        r"\bxox[abeoprs]-\d[A-Za-z0-9-]{9,}|\bxapp-\d-[A-Za-z0-9-]{10,}|\bhooks\.slack\.com/(?:services|workflows)/([A-Za-z0-9/_-]{20,})",
        ("xoxb-" + "1234567890123-abcdefghij", "https://hooks.slack.com/services/" + "T00000000/B00000000/" + "X" * 24),
        ("xoxb-", "xoxo-hugs-and-kisses", "hooks.slack.com/services/"),
    ),
    Rule(
        "google-key",
        r"\bAIza[A-Za-z0-9_-]{35}|\bGOCSPX-[A-Za-z0-9_-]{28}|\bya29\.[A-Za-z0-9_-]{20,}",
        ("AIza" + "SyD-1_xY" * 4 + "abc", "GOCSPX-" + "aB3_" * 7),
        ("AIzaSyShort", "AIza"),
    ),
    Rule(
        "stripe-key",
        r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/=]{24,}",
        ("sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc", "rk_" + "test_" + "a1" * 12),
        ("sk_live_", "pk_live_" + "a" * 24, "task_test_abcdefghijklmnopqrst"),
    ),
    Rule(
        "model-provider-key",
        # OpenAI, Anthropic, and those that took over the form.
        r"\bsk-(?:[A-Za-z0-9]{40,}|(?:proj|svcacct|admin|None|ant-[a-z]+\d\d|or-v1)-[A-Za-z0-9_-]{40,})",
        ("sk-" + "aB3d" * 12, "sk-proj-" + "aB3_" * 12, "sk-ant-" + "api03-" + "aB3-" * 20),
        ("sk-learn", "sk-toggleable-label-arrow-of-a-style-sheet-name", "disk-" + "a" * 48),
    ),
    Rule(
        "hugging-face-token",
        r"\b(?:hf|api_org)_[A-Za-z0-9]{34,}\b",
        ("hf_" + "aBcD" * 8 + "xy",),
        ("hf_hub_download", "hf_" + "a" * 33),
    ),
    Rule("npm-token", r"\bnpm_[A-Za-z0-9]{36}\b", ("npm_" + "a1B2" * 9,), ("npm_config_registry", "npm_" + "a" * 35)),
    Rule(
        "pypi-token",
        r"\bpypi-Ag[A-Za-z0-9_-]{50,}",
        ("pypi-" + "AgEIcHlwaS5vcmc" + "aB3_" * 14,),
        ("pypi-package-name", "pypi-Agile"),
    ),
    Rule(
        "email",
        # The character before the address matters: `%s@host` and `{user}@host` are formats. git@host: is no person.
        rf"(?:^|\\[nrt]|[^\pL\pN._+%@{{}}$/\\-])([\pL\pN_][\pL\pN._+-]{{0,63}}@(?:[\pL\pN](?:[\pL\pN-]{{0,61}}[\pL\pN])?\.)+(?:{_TOP}))\b",
        (
            "user@" + "example.com",
            "<first.last+tag@" + "mail.example.co.uk>",
            "a@" + "b.org, c@" + "d.net",
            "mü" + "ller@" + "bücher.de",
            "JOHN.DOE@" + "ENRON.COM",
            "Jane_Doe@" + "Example.Org",
        ),
        (
            "a@b",
            "@property",
            "x@y.T",
            "h = x@layer.weight",
            "x @ y.com",
            "%s@example.com",
            "{name}@example.com",
            "user@localhost",
            "git@github.com:group/project",
            "@pytest.mark.slow",
            "name@1.2.3",
        ),
        harmless=r"git@.*",
    ),
)

"""The fake ``claude``: it sends the requests, takes the locks and writes the files that the CLI does.

Its behaviour was observed from outside, on loopback, with made-up tokens; none of the CLI's code was read or taken. It
talks to loopback addresses only, and refuses to run where the environment names none. To start in a few tens of
milliseconds it imports little, and late: no ``typing``, ``argparse`` or ``http.client``; ``ssl`` only for TLS.

Variables of its own:

=================================  ====================================================================================
``CLAUDE_TOKENS_DIALECT``          which release to be: ``1.0``, ``2.1.123`` (the default) or ``2.1.330``
``CLAUDE_TOKENS_TOKEN_URL``        a plain-http token endpoint on loopback, used in place of the real host's name
                                   through a proxy
``CLAUDE_TOKENS_TELEMETRY``        the file to which its ``tengu_oauth_…`` events are appended
``CLAUDE_TOKENS_WORKER``           its name in that file
``CLAUDE_TOKENS_TIME_SCALE``       factor for its own pauses (lock, retries, silent standard input); default 1
``CLAUDE_TOKENS_TOKEN_TIMEOUT``    seconds after which it gives a token request up; default as the release, 15 or 30
``CLAUDE_TOKENS_SIDE_REQUESTS``    set: send the CLI's further requests, too (``HEAD /``, ``/v1/mcp_servers``)
``CLAUDE_TOKENS_LOGIN``            an account's name: a login is granted at once for it, without a browser
=================================  ====================================================================================
"""

from __future__ import annotations

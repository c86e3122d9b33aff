"""``ssh://``: pilots on hosts that OpenSSH reaches."""

"""An FTP server in a process of its own: in the tests' own, its old modules' warnings are errors."""

import logging
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer


def main():
    logging.basicConfig(level=logging.WARNING)
    authorizer = DummyAuthorizer()
    authorizer.add_user("me", "secret", sys.argv[2], perm="elradfmwMT")
    authorizer.add_user("reader", "secret", sys.argv[2], perm="elr")
    FTPHandler.authorizer = authorizer
    FTPServer(("127.0.0.1", int(sys.argv[1])), FTPHandler).serve_forever()


if __name__ == "__main__":
    main()

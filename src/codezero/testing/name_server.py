"""A name server for tests: answers A questions for the names it is given, NXDOMAIN for all others.

Usage: python -m codezero.testing.name_server ADDRESS PORT name=address...
"""

import socket
import sys

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


def main() -> None:
    """Answer until killed."""
    address, port = sys.argv[1], int(sys.argv[2])
    records = dict(record.split("=") for record in sys.argv[3:])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, port))
        while True:
            query, client = server.recvfrom(4096)
            server.sendto(answer(query, records), client)


def answer(query: bytes, records: dict[str, str]) -> bytes:
    """The answer to a question by `records`."""
    message = dns.message.from_wire(query)
    response = dns.message.make_response(message, recursion_available=True)
    question = message.question[0]
    found = records.get(question.name.to_text(omit_final_dot=True).lower())
    if found is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A:
        response.answer.append(dns.rrset.from_text(question.name, 5, "IN", "A", found))
    return response.to_wire()


if __name__ == "__main__":
    main()

//! A second person who knows the name, and what the user was let in with last.

pub(super) const CASES: &[(&str, &str)] = &[
    (
        "a second person who types the name early gets silence, then a Reject, and the first is not disturbed",
        "0 packet a jane pw -> ask 0
         5 packet b jane pw -> -
         6 again b -> -
         10 approve 0 -> accept a
         25 again b -> -
         44.5 tick -> reject b push_pending
         45 again b -> resend b",
    ),
    (
        "the tries of a second person belong to them, also when the push is over",
        "0 packet a jane pw -> ask 0
         5 packet b jane guess -> -
         25 packet c jane guess -> -
         30 approve 0 -> accept a
         44.4 packet d jane guess -> -
         44.5 tick -> reject d push_pending
         45 again d -> resend d",
    ),
    (
        "a second person with another password gets silence, however late",
        "0 packet a jane pw -> ask 0
         20 packet b jane guess -> -
         39 packet c jane -empty- -> -
         39.2 approve 0 -> accept a
         59.5 tick -> reject b push_pending
         78.5 tick -> reject c push_pending",
    ),
    (
        "a second person from another client gets silence, early and late",
        "0 packet a jane pw -> ask 0
         5 packet b jane pw from 192.0.2.2 -> -
         30 packet c jane pw from 192.0.2.2 -> -
         35 approve 0 -> accept a
         44.5 tick -> reject b push_pending
         69.5 tick -> reject c push_pending",
    ),
    (
        "of two packets that come when one retry is due, either can be a second person's: the one before has the answer",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         21 packet c jane push -> -
         25 approve 0 -> accept a
         45 packet d jane push -> ask 1
         59.5 tick -> reject b push_pending
         60.5 tick -> reject c push_pending",
    ),
    (
        "a second person with the same keyword later than that: the newest packet before has the answer",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         21.1 packet c jane push -> -
         25 approve 0 -> accept b
         60.6 tick -> reject c push_pending",
    ),
    (
        "an approval in the moment in which the retry is due waits for it to be clear whose the packet was",
        "0 packet a jane push -> ask 0
         19.5 packet b jane push -> -
         19.6 approve 0 -> -
         20 packet c jane push -> accept a",
    ),
    (
        "an approval that waits for this is kept for a further try when its client has gone meanwhile",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         20.5 approve 0 -> -
         20.7 packet c joe pw as b -> ask 1, silent superseded
         21 tick -> -
         40 packet d jane push -> accept d",
    ),
    (
        "when no other packet comes, it was the client's",
        "0 packet a jane push -> ask 0
         20 packet b jane push -> -
         20.1 approve 0 -> -
         21 tick -> accept b",
    ),
    (
        "a retransmission shows that its client has sent nothing else",
        "0 packet a jane push -> ask 0
         19.5 packet b jane push -> -
         20 again a -> -
         21 approve 0 -> accept a
         59 tick -> reject b push_pending",
    ),
    (
        "a packet from the port and identifier of the first shows the same, and has the answer",
        "0 packet a jane push -> ask 0
         19.5 packet b jane push -> -
         20 packet c jane push as a -> -
         21 approve 0 -> accept c
         59 tick -> reject b push_pending",
    ),
    (
        "once a second person was seen, a keyword joins no more, and the user's own text does",
        "0 packet a jane push -> ask 0
         2 packet b jane push -> -
         20 packet c jane push -> -
         25 approve 0 -> accept a
         45 packet d joe pw -> ask 1
         47 packet e joe guess -> -
         65 packet f joe pw -> -
         66 approve 1 -> accept f",
    ),
    (
        "a late approval of a push with a rival serves a text of the user's own only",
        "0 packet a jane push -> ask 0
         2 packet b jane push -> -
         39.5 tick -> reject a timed_out
         41.5 tick -> reject b push_pending
         45 approve 0 -> -
         50 packet c jane push -> ask 1
         51 deny 1 -> reject c denied
         100 packet d joe pw -> ask 2
         102 packet e joe guess -> -
         139.5 tick -> reject d timed_out
         141.5 tick -> reject e push_pending
         145 approve 2 -> -
         150 packet f joe pw -> accept f",
    ),
    (
        "a second person who is first by accident gets no more than the one push",
        "0 packet a jane pw -> ask 0
         1 packet b jane pw -> -
         20 packet c jane pw -> -
         21 packet d jane pw -> -
         22 deny 0 -> reject c denied
         40.5 tick -> reject d push_pending",
    ),
    (
        "a stranger's push does not hold back the text that the user was let in with last",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         100 packet b jane guess from 192.0.2.2 -> ask 1
         101 packet c jane pw -> ask 2, cancel 1
         102 approve 1 -> -
         103 approve 2 -> accept c
         139.5 tick -> reject b push_pending
         140 again b -> resend b",
    ),
    (
        "it does so once in a cool-down",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         100 packet b jane push from 192.0.2.2 -> ask 1
         101 packet c jane pw -> ask 2, cancel 1
         103 approve 2 -> accept c
         104 packet d jane push from 192.0.2.2 -> ask 3
         110 packet e jane pw -> -
         111.1 packet f jane pw from 192.0.2.3 -> ask 4, cancel 3",
    ),
    (
        "a late approval of a response, which never comes again, leaves the known text as it is",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         50 packet b jane other by chap -> ask 1
         89.5 tick -> reject b timed_out
         95 approve 1 -> -
         96 packet c jane other by chap -> accept c
         150 packet d jane guess from 192.0.2.2 -> ask 2
         151 packet e jane pw -> ask 3, cancel 2",
    ),
    (
        "it passes no push of its own text, and no cool-down after a denied push",
        "0 packet a jane pw -> ask 0
         5 approve 0 -> accept a
         50 packet b jane pw -> ask 1
         51 packet c jane pw from 192.0.2.2 -> -
         52 pushed 1 -> -
         53 deny 1 -> reject b denied
         54 packet d jane pw -> reject d throttled",
    ),
    (
        "a keyword, the empty text and a text that was never approved pass nothing",
        "0 packet a jane push -> ask 0
         5 approve 0 -> accept a
         30 packet b jane -empty- -> ask 1
         35 approve 1 -> accept b
         60 packet c jane pw -> ask 2
         65 deny 2 -> reject c denied
         100 packet d jane guess from 192.0.2.2 -> ask 3
         101 packet e jane push -> -
         102 packet f jane -empty- -> -
         103 packet g jane pw -> -",
    ),
];

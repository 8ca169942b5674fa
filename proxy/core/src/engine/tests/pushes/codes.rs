//! Passcodes: judged by themselves, and their retries.

pub(super) const CASES: &[(&str, &str)] = &[
    (
        "a passcode is judged by itself while a push waits",
        "0 packet a jane pw -> ask 0
         5 packet b jane 123456 -> ask 1
         6 approve 1 -> accept b
         10 deny 0 -> reject a denied",
    ),
    (
        "a passcode that is tried again joins, and only the newest packet has the answer",
        "0 packet a jane 123456 -> ask 0
         20 packet b jane 123456 -> -
         25 approve 0 -> accept b
         26 again a -> -
         26 again b -> resend b",
    ),
    (
        "a passcode from the port and identifier of the first joins it at once",
        "0 packet a jane 123456 -> ask 0
         1 packet b jane 123456 as a -> -
         2 approve 0 -> accept b",
    ),
    (
        "a passcode that comes too soon, from elsewhere or for another user is judged by itself",
        "0 packet a jane 123456 -> ask 0
         5 packet b jane 123456 -> ask 1
         20 packet c jane 123456 from 192.0.2.2 -> ask 2
         20 packet d joe 123456 -> ask 3
         21 packet e jane 654321 -> ask 4
         22 approve 0 -> accept a",
    ),
    (
        "the answer to a passcode is given again to its client's next try, which is no login of its own",
        "0 packet a jane 123456 -> ask 0
         1 approve 0 -> accept a
         20 packet b jane 123456 -> again accept b
         21 again b -> resend b
         39 packet c jane 123456 -> ask 1",
    ),
    (
        "a wrong passcode is wrong for its client's next try too",
        "0 packet a jane 123456 -> ask 0
         1 wrong 0 -> reject a wrong_passcode
         19.9 packet b jane 123456 as a -> again reject b
         45 packet c jane 123456 -> ask 1",
    ),
    (
        "the answer to a passcode is for no other address, and for no packet off the client's schedule",
        "0 packet a jane 123456 -> ask 0
         1 approve 0 -> accept a
         20 packet b jane 123456 from 192.0.2.2 -> ask 1
         20 packet c jane 123456 -> ask 2
         50 packet d joe 123456 -> ask 3
         51 approve 3 -> accept d
         60 packet e joe 123456 -> ask 4
         70 packet f joe 123456 -> ask 5",
    ),
    (
        "a passcode whose client is gone is cancelled",
        "0 packet a jane 123456 -> ask 0
         5 packet b joe 123456 as a -> ask 1, silent superseded, cancel 0
         6 approve 0 -> -
         7 approve 1 -> accept b",
    ),
];

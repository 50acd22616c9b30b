"""Descriptions of the types of the operator listener, for those who write programs for it."""

from atlas.edge.openapi.texts import FieldText, TypeText, describe_time

USER: FieldText = "A keyed hash of the user's `sub`, the same as in the log."
TRANSACTION: FieldText = "The RID of the Foundry transaction; null if there is none."

OPERATOR_TEXTS = {
    "AbandonResult": TypeText("The number of exports that were discarded.", {}),
    "CheckResult": TypeText(
        "The result of a step of the diagnosis.",
        {
            "number": "The number of the step; it never changes.",
            "evidence": "Names and values that were observed.",
            "to_do": "Repairs it, or is a recommendation; empty if there is nothing to do.",
        },
    ),
    "DatasetFile": TypeText(
        "A file on the branch.",
        {"path": "It contains the user's `sub`.", "at": describe_time("The time of its creation.")},
    ),
    "CallStatistics": TypeText(
        "Calls of the last five minutes, and percentiles of their durations; null if there are"
        " none.",
        {},
    ),
    "Diagnosis": TypeText(
        "All steps in their order, and additional facts.", {"at": describe_time("The time.")}
    ),
    "DiagnosisRequest": TypeText(
        "Optional inputs of a diagnosis.",
        {"token": "A phone's token.", "url": "The URL that phones use."},
    ),
    "ErasureReceipt": TypeText(
        "The receipt of an erasure.",
        {
            "at": describe_time("The time."),
            "user": USER,
            "files": "The number of changed files.",
            "transactions": "The RIDs of the transactions that made the changes.",
            "purged": "The number of rows deleted from the journal, by kind.",
            "shared": "Files with rows of this person that could not be changed.",
            "to_do": "Steps that are left to others, in their order.",
            "known": "False if there were no data of this person, so that nothing was erased.",
        },
    ),
    "FoundryStatus": TypeText(
        "The connection to Foundry.",
        {
            "paused_reason": "The reason why uploads are paused; null if they are not.",
            "paused_at": describe_time("The time since which uploads are paused."),
            "last_commit_at": describe_time("The time of the last commit."),
        },
    ),
    "HistoryPoint": TypeText(
        "The waiting exports at a time.", {"at": "The time, in seconds since 1970."}
    ),
    "JournalEntry": TypeText(
        "One export in the journal.",
        {
            "user": USER,
            "tries": "The number of failures that count.",
            "reason": "The reason of the last failure, or of setting it aside.",
            "correlation_id": "That of the first request that brought it.",
            "isolation": "The way it is retried: with others, in a file of its own, in a small"
            " group, or alone.",
        },
    ),
    "JournalPage": TypeText(
        "A page of the journal, newest first.",
        {
            "totals": "The number of all exports by status.",
            "before": "`before` of the next page; null on the last one.",
            "looked_at": "The number of exports searched, if the search ended before the oldest.",
        },
    ),
    "JournalStatus": TypeText(
        "The journal of all replicas, and its limits.",
        {
            "exports": "Exports that wait for Foundry.",
            "failed": "Those of them that have failed, and are retried apart.",
        },
    ),
    "LatencyStatus": TypeText(
        "Latency and failures of the last five minutes.",
        {
            "phones": "Exports that were accepted, with the time until their answer, and those that"
            " failed with a 5xx.",
            "foundry": "All calls. Those without an answer have failed, and those with an error"
            " other than 404.",
        },
    ),
    "KnownPhone": TypeText(
        "A phone of this person that the journal remembers.",
        {
            "last_export_at": describe_time("The time of its last export, or null."),
            "types": "The number of its sample types.",
        },
    ),
    "Phone": TypeText(
        "A phone: a user and a device.",
        {
            "user": USER,
            "state": "`quiet`: no export for `quiet_days`. `stuck`: it keeps sending the same.",
            "last_export_at": describe_time("The time of its last export, or null."),
            "exports": "The number of exports in the last seven days.",
            "rows": "The number of their rows.",
            "rejected": "The number of their rejected lines.",
            "samples": "The latest start date by sample type.",
            "source_version": "The version of the source of the phone's own samples.",
            "app_version": "The version of the app, as the phone reports it.",
            "os_version": "The version of iOS.",
            "report": "The report that arrived last, without its counts.",
            "reported_at": describe_time("The time of its arrival."),
        },
    ),
    "PhonePage": TypeText(
        "A page of phones.", {"before": "`before` of the next page; null on the last one."}
    ),
    "PhoneReport": TypeText("What a phone saw of its own synchronization.", {}),
    "PhoneOwner": TypeText("The user in question.", {"user": "The `sub` of the user's tokens."}),
    "PhoneTotals": TypeText("The number of phones with an export in the last 30 days.", {}),
    "ReportPage": TypeText(
        "The reports of one user.",
        {
            "next_user": "`after` of the next page; empty on the last.",
            "waiting_rows": "The number of the user's rows that are not committed yet.",
        },
    ),
    "ReportedError": TypeText("An error, as the app describes it.", {}),
    "ReportsQuery": TypeText(
        "The user in question.",
        {
            "user": "The `sub` of the user's tokens.",
            "after": "`next_user` of the last page, without `user`.",
        },
    ),
    "SampleCount": TypeText("The number of samples of a type on a day.", {}),
    "StoredReport": TypeText(
        "A report in the journal.",
        {"user": USER, "sub": "The user's `sub`.", "received_at": describe_time("Its arrival.")},
    ),
    "PersonQuery": TypeText(
        "The person in question.",
        {"user": "The `sub` of the person's tokens.", "files": "Also list each file."},
    ),
    "PersonalDataReport": TypeText(
        "All data of a person that Atlas has stored.",
        {
            "user": USER,
            "first": describe_time("The time of the oldest file."),
            "last": describe_time("The time of the newest file."),
            "exports": "The number of exports in the journal, by status.",
            "digests": "The number of compacted receipts.",
            "shared": "Files that also have rows of others.",
            "aside": "Exports that are set aside.",
            "listed": "Each file, if that was requested.",
        },
    ),
    "Receipt": TypeText(
        "The state of one export.",
        {
            "path": "The path of its file; the user's folder is a keyed hash.",
            "ingested": "The number of rows.",
            "rejected": "The number of rejected lines.",
            "rejects": "The first rejected lines.",
            "transaction": TRANSACTION,
        },
    ),
    "RecentCommit": TypeText(
        "A committed transaction.", {"at": describe_time("The time of the commit.")}
    ),
    "Reject": TypeText("A line that became no row.", {"line": "The number of the line, from 1."}),
    "RemovalResult": TypeText("The number of removed files.", {"transaction": TRANSACTION}),
    "ReplayResult": TypeText(
        "The result of a replay.",
        {"again": "Exports that are on their way again.", "failed": "Exports that failed again."},
    ),
    "Replica": TypeText(
        "A replica of the service.",
        {
            "epoch": "The epoch of its lease, if it leads; else null.",
            "is_this": "True for the replica that reports.",
            "clock_skew_seconds": "Its clock is ahead of the database's by so many seconds.",
        },
    ),
    "RewrittenFile": TypeText("A file that was replaced by one without this person's rows.", {}),
    "Section": TypeText("Additional facts for the reader.", {"facts": "Names and values."}),
    "SetAsideExport": TypeText("A set-aside export of this person.", {}),
    "SharedFile": TypeText(
        "A file with rows of several people.", {"exports": "The number of exports of this person."}
    ),
    "ServiceVerdict": TypeText(
        "The verdict on the whole service.",
        {
            "state": "`down`: no export can be accepted now. `degraded`: some do not reach Foundry"
            " in time, or need an operator.",
            "reasons": "Sentences; none if it is `ok`.",
        },
    ),
    "StageStatus": TypeText(
        "A stage of the flow.",
        {"queue": "Messages that wait for it.", "size": "The most that can wait."},
    ),
    "StatusCounts": TypeText(
        "Totals since the start. `accepted`, `replayed`, `committed` and `set_aside` count exports,"
        " `rejected` lines, and `rows` committed rows.",
        {},
    ),
    "StatusSnapshot": TypeText(
        "The status. The journal and its history are those of all replicas, everything else is of"
        " this one.",
        {
            "at": describe_time("The time."),
            "started": describe_time("The time of the start."),
            "dataset": "The RID of the dataset.",
            "rejects": "The number of rejected lines, by reason.",
            "refusals": "The number of refused requests, by code.",
            "dataset_url": "The address of the dataset in Foundry's web interface; null for an"
            " emulator.",
        },
    ),
}

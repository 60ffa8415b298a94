CREATE SCHEMA story_events;
CREATE TABLE story_events.events_events_3ad9e005_20260103_000000_b05e91 (
    problem text,
    slice bigint,
    "position" bigint,
    batch bigint,
    bucket text,
    event_id text,
    user_id text,
    device_id text,
    occurred_at timestamp with time zone,
    new_id text
);
CREATE TABLE story_events.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
INSERT INTO story_events.events_events_3ad9e005_20260103_000000_b05e91 VALUES
	(NULL, 0, 0, 0, '077', 'e17', 'u8', NULL, '2026-01-02 10:00:00+00', 'e17'),
	(NULL, 0, 1, 1, '270', 'e20', 'u2', NULL, '2026-01-02 16:00:00+00', 'e20'),
	(NULL, 0, 2, 2, '3e3', 'e18', 'u0', NULL, '2026-01-02 12:00:00+00', 'e18'),
	(NULL, 0, 3, 3, '4d0', 'e14', 'u5', NULL, '2026-01-02 04:00:00+00', 'e14'),
	(NULL, 0, 4, 3, '4d0', 'e23', 'u5', NULL, '2026-01-02 22:00:00+00', 'e23'),
	(NULL, 0, 5, 5, '532', 'e12', 'u3', NULL, '2026-01-02 00:00:00+00', 'e12'),
	(NULL, 0, 6, 5, '532', 'e21', 'u3', NULL, '2026-01-02 18:00:00+00', 'e21'),
	(NULL, 1, 7, 7, '6bc', 'e16', 'u7', NULL, '2026-01-02 08:00:00+00', 'e16'),
	(NULL, 1, 8, 8, '7b8', 'e13', 'u4', NULL, '2026-01-02 02:00:00+00', 'e13'),
	(NULL, 1, 9, 8, '7b8', 'e22', 'u4', NULL, '2026-01-02 20:00:00+00', 'e22'),
	(NULL, 1, 10, 10, 'a6a', 'e15', 'u6', NULL, '2026-01-02 06:00:00+00', 'e15'),
	(NULL, 1, 11, 11, 'e47', 'e19', 'u1', NULL, '2026-01-02 14:00:00+00', 'e19');
INSERT INTO story_events.ledger VALUES
	('events', 'f8e33947756b56dd933e4527fd180e68', 1, 'attached', '2026-01-02T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/events", "message_format": "mparticle_events", "on_first_run": "events"}', '2026-11-28T21:44:54.129+00:00', '956ccd25822a47e9bc4191e9df639520'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 2, 'snapshot', '2026-01-02T00:00:00Z', '{"end": "2026-01-02T00:00:00Z", "start": "2026-01-01T00:00:00Z", "table": "events_events_3ad9e005_20260102_000000_844a7b"}', '2026-11-28T21:44:54.141+00:00', '7623125c3bb7454c9b3b34a19d23996d'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 3, 'snapshot', '2026-01-02T00:00:00Z', '{"dropped_rows": 0, "end": "2026-01-02T00:00:00Z", "layout": {"arrived": "timestamp", "columns": {"audience_id": "events", "audience_id_column": null, "columns": [{"kind": "text", "label": "data.event_name", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "id", "state": "id"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "occurred": "timestamp"}, "rows": 12, "slices": 2, "start": "2026-01-01T00:00:00Z", "table": "events_events_3ad9e005_20260102_000000_844a7b", "written": true}', '2026-11-28T21:44:54.160+00:00', '1b2464e4d96f4c36818614cd1682efaf'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 4, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"mparticle_events\", \"message_bytes\": 9936, \"options\": {\"batch\": false}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "events_events_3ad9e005_20260102_000000_844a7b"}', '2026-11-28T21:44:54.166+00:00', 'a2688ffe598e497b9aad2bab5843e015'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 5, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"mparticle_events\", \"message_bytes\": 9936, \"options\": {\"batch\": false}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "events_events_3ad9e005_20260102_000000_844a7b"}', '2026-11-28T21:44:54.187+00:00', '22f618178d7a453582360de33503143d'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 6, 'delivered', '2026-01-02T00:00:00Z', '{"delivered": 12, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"mparticle_events\", \"message_bytes\": 9936, \"options\": {\"batch\": false}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 17179869184], [21474836480, 25769803776], [30064771072, 34359738368]], "below": 4294967296}, "table": "events_events_3ad9e005_20260102_000000_844a7b"}', '2026-11-28T21:44:54.199+00:00', '9757ada06dc845399da02646be64990c'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 7, 'snapshot', '2026-01-02T00:00:00Z', '{"table": "events_events_3ad9e005_20260102_000000_844a7b"}', '2026-11-28T21:44:54.203+00:00', 'b3912b515e434cf5849270aa3f046a0a'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 8, 'snapshot', '2026-01-02T00:00:00Z', '{}', '2026-11-28T21:44:54.206+00:00', 'ece49c638bdb46188c046d1f9463331b'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 9, 'snapshot', '2026-01-03T00:00:00Z', '{"end": "2026-01-03T00:00:00Z", "start": "2026-01-02T00:00:00Z", "table": "events_events_3ad9e005_20260103_000000_b05e91"}', '2026-11-28T21:44:54.229+00:00', '2b360c2c433a43219c0f9c9a4e638c13'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 10, 'snapshot', '2026-01-03T00:00:00Z', '{"dropped_rows": 0, "end": "2026-01-03T00:00:00Z", "layout": {"arrived": "timestamp", "columns": {"audience_id": "events", "audience_id_column": null, "columns": [{"kind": "text", "label": "data.event_name", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "id", "state": "id"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "occurred": "timestamp"}, "rows": 12, "slices": 2, "start": "2026-01-02T00:00:00Z", "table": "events_events_3ad9e005_20260103_000000_b05e91", "written": true}', '2026-11-28T21:44:54.247+00:00', '8e0b7554f00f4b6ca5685fdb84d0bced'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 11, 'sending', '2026-01-03T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"mparticle_events\", \"message_bytes\": 9936, \"options\": {\"batch\": false}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "events_events_3ad9e005_20260103_000000_b05e91"}', '2026-11-28T21:44:54.254+00:00', 'fc8a9e71305b4aa58cd88e2a51598f64'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 12, 'checkpoint', '2026-01-03T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"mparticle_events\", \"message_bytes\": 9936, \"options\": {\"batch\": false}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "events_events_3ad9e005_20260103_000000_b05e91"}', '2026-11-28T21:44:54.262+00:00', 'dba307aa5c524b649b86a53ba8b05085'),
	('events', 'f8e33947756b56dd933e4527fd180e68', 13, 'checkpoint', '2026-01-03T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"mparticle_events\", \"message_bytes\": 9936, \"options\": {\"batch\": false}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934594]], "below": 2}, "table": "events_events_3ad9e005_20260103_000000_b05e91"}', '2026-11-28T21:44:54.269+00:00', '7f3da424a7f8438884df357b17a2c7e7');
ALTER TABLE ONLY story_events.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX events_events_3ad9e005_20260103_000000_b05e91_slice_idx ON story_events.events_events_3ad9e005_20260103_000000_b05e91 USING btree (slice);
CREATE INDEX ledger_closed ON story_events.ledger USING btree (as_of) WHERE (event = 'closed'::text);

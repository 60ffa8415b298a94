CREATE SCHEMA story_snapshot;
CREATE TABLE story_snapshot.base_dag_diff_17567dc9_20260101_000000_4e10b3 (
    action text,
    audience_id text,
    user_id text,
    member_since text,
    new_email text,
    new_city text,
    left_at text,
    audience_name text,
    source_rows bigint,
    invalid_rows bigint,
    wrong_identities text
);
CREATE TABLE story_snapshot.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
CREATE TABLE story_snapshot.snapshot_dag_diff_17567dc9_20260101_000000_f54077 (
    "position" bigint,
    action text,
    updated text,
    bucket text,
    audience_id text,
    user_id text,
    member_since text,
    new_email text,
    new_city text,
    old_email text,
    old_city text,
    audience_name text,
    source_rows bigint,
    invalid_rows bigint,
    wrong_identities text
);
INSERT INTO story_snapshot.base_dag_diff_17567dc9_20260101_000000_4e10b3 VALUES
	('member', 'vips', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u9', '2026-01-01T00:00:00Z', 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u10', '2026-01-01T00:00:00Z', 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u11', '2026-01-01T00:00:00Z', 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u12', '2026-01-01T00:00:00Z', 'u12@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u13', '2026-01-01T00:00:00Z', 'u13@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u14', '2026-01-01T00:00:00Z', 'u14@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u15', '2026-01-01T00:00:00Z', 'u15@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u16', '2026-01-01T00:00:00Z', 'u16@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u17', '2026-01-01T00:00:00Z', 'u17@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u18', '2026-01-01T00:00:00Z', 'u18@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u19', '2026-01-01T00:00:00Z', 'u19@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u20', '2026-01-01T00:00:00Z', 'u20@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u21', '2026-01-01T00:00:00Z', 'u21@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u22', '2026-01-01T00:00:00Z', 'u22@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u23', '2026-01-01T00:00:00Z', 'u23@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'vips', NULL, NULL, NULL, NULL, NULL, 'VIPS', 24, 0, NULL);
INSERT INTO story_snapshot.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_4e10b3"}', '2026-11-28T21:44:42.415+00:00', '59046f0a1bcc4f00bbb6ae1ed72d90eb'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"vips": {"entered": 24, "exited": 0, "members": 24, "updated": 0}}, "counts": {"changes": 24, "entered": 24, "exited": 0, "members": 24, "updated": 0}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 24, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_4e10b3"}', '2026-11-28T21:44:42.433+00:00', '10359ad601704f06b2c230bbcf42a53a'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:42.443+00:00', 'f80401e4c331443493eb5bb324de38f2'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/new", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:42.451+00:00', '8d710d1c0dcb48a38bedc322819822b2'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_f54077"}', '2026-11-28T21:44:42.464+00:00', 'd6cce7812da340cabd141d8151984255'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_f54077", "written": true}', '2026-11-28T21:44:42.480+00:00', '90e4d37ad9f243caa3432c4623e06bc5'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f54077"}', '2026-11-28T21:44:42.491+00:00', '990959a8fb164539a71bbf693cbe7384'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[21474836480, 21474836481]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f54077"}', '2026-11-28T21:44:42.514+00:00', '5754e26726da4b5299c4bf995c7241d7'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 6, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 8, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[21474836480, 21474836482]], "below": 2}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f54077"}', '2026-11-28T21:44:42.521+00:00', 'c8c2061538144c9489883a5c46d36816'),
	('dag.diff', '060cabc9b1845458be58369311b9343a', 7, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 12, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[21474836480, 21474836482], [42949672960, 42949672961]], "below": 3}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f54077"}', '2026-11-28T21:44:42.524+00:00', '014148b4c1bf47f8915650fc73290ad6');
INSERT INTO story_snapshot.snapshot_dag_diff_17567dc9_20260101_000000_f54077 VALUES
	(0, 'entered', NULL, '077', 'vips', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'entered', NULL, '0d7', 'vips', 'u19', '2026-01-01T00:00:00Z', 'u19@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(2, 'entered', NULL, '14c', 'vips', 'u17', '2026-01-01T00:00:00Z', 'u17@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(3, 'entered', NULL, '22a', 'vips', 'u21', '2026-01-01T00:00:00Z', 'u21@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(4, 'entered', NULL, '270', 'vips', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(5, 'entered', NULL, '32a', 'vips', 'u18', '2026-01-01T00:00:00Z', 'u18@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(6, 'entered', NULL, '3e3', 'vips', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(7, 'entered', NULL, '45f', 'vips', 'u23', '2026-01-01T00:00:00Z', 'u23@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(8, 'entered', NULL, '4d0', 'vips', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(9, 'entered', NULL, '4da', 'vips', 'u22', '2026-01-01T00:00:00Z', 'u22@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(10, 'entered', NULL, '532', 'vips', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(11, 'entered', NULL, '548', 'vips', 'u9', '2026-01-01T00:00:00Z', 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(12, 'entered', NULL, '6bc', 'vips', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(13, 'entered', NULL, '6d9', 'vips', 'u14', '2026-01-01T00:00:00Z', 'u14@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(14, 'entered', NULL, '7b8', 'vips', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(15, 'entered', NULL, '80b', 'vips', 'u15', '2026-01-01T00:00:00Z', 'u15@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(16, 'entered', NULL, 'a4c', 'vips', 'u11', '2026-01-01T00:00:00Z', 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(17, 'entered', NULL, 'a6a', 'vips', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(18, 'entered', NULL, 'cb8', 'vips', 'u10', '2026-01-01T00:00:00Z', 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(19, 'entered', NULL, 'de5', 'vips', 'u16', '2026-01-01T00:00:00Z', 'u16@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(20, 'entered', NULL, 'e20', 'vips', 'u13', '2026-01-01T00:00:00Z', 'u13@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(21, 'entered', NULL, 'e2d', 'vips', 'u12', '2026-01-01T00:00:00Z', 'u12@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(22, 'entered', NULL, 'e47', 'vips', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(23, 'entered', NULL, 'e4c', 'vips', 'u20', '2026-01-01T00:00:00Z', 'u20@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'vips', NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 24, 0, NULL);
ALTER TABLE ONLY story_snapshot.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260101_000000_4e10b3_audience_id_idx ON story_snapshot.base_dag_diff_17567dc9_20260101_000000_4e10b3 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX ledger_closed ON story_snapshot.ledger USING btree (as_of) WHERE (event = 'closed'::text);
CREATE INDEX snapshot_dag_diff_17567dc9_20260101_000000_f54077_position_idx ON story_snapshot.snapshot_dag_diff_17567dc9_20260101_000000_f54077 USING btree ("position");
CREATE INDEX snapshot_dag_diff_17567dc9_20260101_000000_f540_audience_id_idx ON story_snapshot.snapshot_dag_diff_17567dc9_20260101_000000_f54077 USING btree (audience_id) WHERE (action = 'audience'::text);

CREATE SCHEMA story_unsent;
CREATE TABLE story_unsent.base_dag_diff_17567dc9_20260101_000000_ad89ba (
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
CREATE TABLE story_unsent.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
CREATE TABLE story_unsent.snapshot_dag_diff_17567dc9_20260101_000000_443a06 (
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
INSERT INTO story_unsent.base_dag_diff_17567dc9_20260101_000000_ad89ba VALUES
	('member', 'vips', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'vips', NULL, NULL, NULL, NULL, NULL, 'VIPS', 9, 0, NULL);
INSERT INTO story_unsent.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_ad89ba"}', '2026-11-28T21:44:55.264+00:00', 'c35a78cb2ef94de9ba510e96b0a49d87'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"vips": {"entered": 9, "exited": 0, "members": 9, "updated": 0}}, "counts": {"changes": 9, "entered": 9, "exited": 0, "members": 9, "updated": 0}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 9, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_ad89ba"}', '2026-11-28T21:44:55.277+00:00', '0dba11cf21bd4b86b80a80fd7ed8d740'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:55.287+00:00', '0b7b69dee86341ee8aaa218bd2e993d0'),
	('dag.diff', 'b8715a4a8951565c9667381bcae52ca0', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/unsent", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:55.292+00:00', '25d7494133ea4f1ba4f1d3ea60f5ceba'),
	('dag.diff', 'b8715a4a8951565c9667381bcae52ca0', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_443a06"}', '2026-11-28T21:44:55.306+00:00', 'c9c41569ec164be482186a242000eca4'),
	('dag.diff', 'b8715a4a8951565c9667381bcae52ca0', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_443a06", "written": true}', '2026-11-28T21:44:55.318+00:00', '1dfc4305c12648e782ca7b35deaca0d1'),
	('dag.diff', 'b8715a4a8951565c9667381bcae52ca0', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_443a06"}', '2026-11-28T21:44:55.326+00:00', 'b82dbb5e91454eca878073404e7f0656'),
	('dag.diff', 'b8715a4a8951565c9667381bcae52ca0', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_443a06"}', '2026-11-28T21:44:55.345+00:00', '6b751e5e3dcd4f269ba5f9c6f932f875'),
	('dag.diff', 'b8715a4a8951565c9667381bcae52ca0', 6, 'unsent', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_443a06"}', '2026-11-28T21:44:55.347+00:00', 'bf1e7095267742bdab85804e0836fd44');
INSERT INTO story_unsent.snapshot_dag_diff_17567dc9_20260101_000000_443a06 VALUES
	(0, 'entered', NULL, '077', 'vips', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'entered', NULL, '270', 'vips', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(2, 'entered', NULL, '3e3', 'vips', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(3, 'entered', NULL, '4d0', 'vips', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(4, 'entered', NULL, '532', 'vips', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(5, 'entered', NULL, '6bc', 'vips', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(6, 'entered', NULL, '7b8', 'vips', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(7, 'entered', NULL, 'a6a', 'vips', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(8, 'entered', NULL, 'e47', 'vips', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'vips', NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 9, 0, NULL);
ALTER TABLE ONLY story_unsent.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260101_000000_ad89ba_audience_id_idx ON story_unsent.base_dag_diff_17567dc9_20260101_000000_ad89ba USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX ledger_closed ON story_unsent.ledger USING btree (as_of) WHERE (event = 'closed'::text);
CREATE INDEX snapshot_dag_diff_17567dc9_20260101_000000_443a06_position_idx ON story_unsent.snapshot_dag_diff_17567dc9_20260101_000000_443a06 USING btree ("position");
CREATE INDEX snapshot_dag_diff_17567dc9_20260101_000000_443a_audience_id_idx ON story_unsent.snapshot_dag_diff_17567dc9_20260101_000000_443a06 USING btree (audience_id) WHERE (action = 'audience'::text);

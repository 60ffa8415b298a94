CREATE SCHEMA story_held;
CREATE TABLE story_held.base_dag_diff_17567dc9_20260101_000000_fcb68a (
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
CREATE TABLE story_held.changes_dag_diff_17567dc9_20260102_000000_2b64f8 (
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
CREATE TABLE story_held.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
INSERT INTO story_held.base_dag_diff_17567dc9_20260101_000000_fcb68a VALUES
	('member', 'vips', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'vips', NULL, NULL, NULL, NULL, NULL, 'VIPS', 8, 0, NULL);
INSERT INTO story_held.changes_dag_diff_17567dc9_20260102_000000_2b64f8 VALUES
	(0, 'entered', NULL, '077', 'vips', 'u8', '2026-01-02T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'exited', NULL, '270', 'vips', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(2, 'exited', NULL, '3e3', 'vips', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(3, 'exited', NULL, 'e47', 'vips', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'vips', NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 6, 0, NULL);
INSERT INTO story_held.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_fcb68a"}', '2026-11-28T21:44:50.638+00:00', 'bd44c43e3224457e89b98af04aa80f53'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"vips": {"entered": 8, "exited": 0, "members": 8, "updated": 0}}, "counts": {"changes": 8, "entered": 8, "exited": 0, "members": 8, "updated": 0}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 8, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_fcb68a"}', '2026-11-28T21:44:50.655+00:00', 'ef98108566644ec7a160eac1aaafd3b2'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:50.663+00:00', 'f6f18bed73fe41dda66b2befcdac72d0'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/held", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:50.668+00:00', 'c0207904e95147bb93e0d272b84a6383'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_914aa8"}', '2026-11-28T21:44:50.683+00:00', 'f8e2ebc43fa44e73906a933140b457b9'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_914aa8", "written": true}', '2026-11-28T21:44:50.696+00:00', '52042173ee7f495ca785d3c978ba21fd'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_914aa8"}', '2026-11-28T21:44:50.705+00:00', '9aa4750e61dc47209e25028b85cfe68e'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_914aa8"}', '2026-11-28T21:44:50.724+00:00', '0280218ff0e34e0fae1ca2da8f27cd4d'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 8, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 12884901888], [17179869184, 21474836480], [30064771072, 34359738368]], "below": 4294967296}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_914aa8"}', '2026-11-28T21:44:50.735+00:00', '1aa0ce79c4c0497ea32a5674a9801892'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_914aa8"}', '2026-11-28T21:44:50.751+00:00', 'b3ecfef5e658487ea8488f20365f95f3'),
	('dag.diff', '2d78bc7229f158b3963c0dcc202f157d', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:50.756+00:00', 'f6910cc8fdaa4386b4008e2b3db2c718'),
	('dag.diff', '', 4, 'started', '2026-01-02T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260102_000000_2b64f8"}', '2026-11-28T21:44:50.769+00:00', '0904f07e28184c2c84144aeaeff37786'),
	('dag.diff', '', 5, 'held', '2026-01-02T00:00:00Z', '{"audiences": {"vips": {"entered": 1, "exited": 3, "members": 6, "updated": 0}}, "breaches": ["audience ''vips'': 3 of 8 members would exit (max_exits is 1)"], "counts": {"changes": 4, "entered": 1, "exited": 3, "members": 6, "updated": 0}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-01T00:00:00Z", "rows": 4, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260102_000000_2b64f8"}', '2026-11-28T21:44:50.793+00:00', 'be95b82fd69140ffa8dc13358ab2c465');
ALTER TABLE ONLY story_held.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260101_000000_fcb68a_audience_id_idx ON story_held.base_dag_diff_17567dc9_20260101_000000_fcb68a USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_2b64f8_position_idx ON story_held.changes_dag_diff_17567dc9_20260102_000000_2b64f8 USING btree ("position");
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_2b64f_audience_id_idx ON story_held.changes_dag_diff_17567dc9_20260102_000000_2b64f8 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX ledger_closed ON story_held.ledger USING btree (as_of) WHERE (event = 'closed'::text);

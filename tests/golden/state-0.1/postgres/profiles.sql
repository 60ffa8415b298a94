CREATE SCHEMA story_profiles;
CREATE TABLE story_profiles.base_dag_diff_17567dc9_20260101_000000_173f14 (
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
CREATE TABLE story_profiles.changes_dag_diff_17567dc9_20260102_000000_c78235 (
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
CREATE TABLE story_profiles.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
CREATE TABLE story_profiles.profiles_dag_diff_17567dc9_20260102_000000_85e0df (
    slice bigint,
    "position" bigint,
    user_id text,
    bucket text,
    changes bigint,
    known integer,
    memberships text,
    new_email text,
    old_email text,
    new_city text,
    old_city text
);
INSERT INTO story_profiles.base_dag_diff_17567dc9_20260101_000000_173f14 VALUES
	('member', 'a', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u9', '2026-01-01T00:00:00Z', 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u10', '2026-01-01T00:00:00Z', 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u11', '2026-01-01T00:00:00Z', 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'a', NULL, NULL, NULL, NULL, NULL, 'A', 9, 0, NULL),
	('audience', 'b', NULL, NULL, NULL, NULL, NULL, 'B', 7, 0, NULL);
INSERT INTO story_profiles.changes_dag_diff_17567dc9_20260102_000000_c78235 VALUES
	(0, 'entered', NULL, '548', 'a', 'u9', '2026-01-02T00:00:00Z', 'u9@example.com', 'Rome', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'exited', NULL, '3e3', 'a', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(2, 'updated', 'properties', '077', 'a', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Rome', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(3, 'updated', 'properties', '270', 'a', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Rome', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(4, 'updated', 'properties', '4d0', 'a', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Rome', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(5, 'updated', 'properties', '532', 'a', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Rome', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(6, 'updated', 'properties', '6bc', 'a', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Rome', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(7, 'updated', 'properties', '7b8', 'a', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Rome', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(8, 'updated', 'properties', 'a6a', 'a', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Rome', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(9, 'updated', 'properties', 'e47', 'a', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Rome', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(10, 'entered', NULL, '7b8', 'b', 'u4', '2026-01-02T00:00:00Z', 'u4@example.com', 'Rome', NULL, NULL, NULL, NULL, NULL, NULL),
	(11, 'updated', 'properties', '077', 'b', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Rome', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(12, 'updated', 'properties', '4d0', 'b', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Rome', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(13, 'updated', 'properties', '548', 'b', 'u9', '2026-01-01T00:00:00Z', 'u9@example.com', 'Rome', 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(14, 'updated', 'properties', '6bc', 'b', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Rome', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(15, 'updated', 'properties', 'a4c', 'b', 'u11', '2026-01-01T00:00:00Z', 'u11@example.com', 'Rome', 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(16, 'updated', 'properties', 'a6a', 'b', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Rome', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(17, 'updated', 'properties', 'cb8', 'b', 'u10', '2026-01-01T00:00:00Z', 'u10@example.com', 'Rome', 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'A', 9, 0, NULL),
	(NULL, 'audience', NULL, NULL, 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'B', 8, 0, NULL);
INSERT INTO story_profiles.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_173f14"}', '2026-11-28T21:44:43.994+00:00', '099e955008674549adc6454807758ee5'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"a": {"entered": 9, "exited": 0, "members": 9, "updated": 0}, "b": {"entered": 7, "exited": 0, "members": 7, "updated": 0}}, "counts": {"changes": 16, "entered": 16, "exited": 0, "members": 16, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "home.city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 16, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_173f14"}', '2026-11-28T21:44:44.016+00:00', '6c3f1fc5ebdb4b9da77a7557cc7a1063'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:44.035+00:00', 'ad4076b5d22c4d8fad72629435051849'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/profiles", "message_format": "adobe_profile", "on_first_run": "enter_all"}', '2026-11-28T21:44:44.039+00:00', '794cf06f4e08474c9ffc8c72a0f3e55f'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_c83e72"}', '2026-11-28T21:44:44.054+00:00', 'c839b3a4cb344bc1881941d6caffb83d'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_c83e72", "written": true}', '2026-11-28T21:44:44.073+00:00', 'c0c89a165fbc4a70951dcfb3f6fd98c7'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 4, 'profiles', '2026-01-01T00:00:00Z', '{"changes": "snapshot_dag_diff_17567dc9_20260101_000000_c83e72", "exits_kept_seconds": 2592000, "table": "profiles_dag_diff_17567dc9_20260101_000000_44f124"}', '2026-11-28T21:44:44.085+00:00', 'eaafd0f39e3441e19105fd505c7a74d9'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 5, 'profiles', '2026-01-01T00:00:00Z', '{"changes": "snapshot_dag_diff_17567dc9_20260101_000000_c83e72", "exits_kept_seconds": 2592000, "slices": 3, "table": "profiles_dag_diff_17567dc9_20260101_000000_44f124", "written": true}', '2026-11-28T21:44:44.105+00:00', 'b727f545cd7c4b4fb2c5f056b52bc1f3'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 6, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "profiles_dag_diff_17567dc9_20260101_000000_44f124"}', '2026-11-28T21:44:44.113+00:00', 'b5c7dca1ddb04945bb82125d0a635225'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 7, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "profiles_dag_diff_17567dc9_20260101_000000_44f124"}', '2026-11-28T21:44:44.131+00:00', '8e903b215fa74ad6a79b4de3d202d728'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 8, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 16, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 21474836480], [30064771072, 34359738368], [47244640256, 51539607552]], "below": 4294967296}, "table": "profiles_dag_diff_17567dc9_20260101_000000_44f124"}', '2026-11-28T21:44:44.142+00:00', 'eeb9790cfd344a66a869ead60f686312'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 9, 'profiles', '2026-01-01T00:00:00Z', '{"table": "profiles_dag_diff_17567dc9_20260101_000000_44f124"}', '2026-11-28T21:44:44.149+00:00', '8985f9ede35049b9869b7199e80823e1'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 10, 'profiles', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:44.152+00:00', '7a0b0eec7ce44e01a1225c5292685d97'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 11, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_c83e72"}', '2026-11-28T21:44:44.167+00:00', 'e0b39a1b331b4243a1659af4bf581e8c'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 12, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:44.169+00:00', '03b0bd89b0dd4152a76257fdff45ec31'),
	('dag.diff', '', 4, 'started', '2026-01-02T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260102_000000_c78235"}', '2026-11-28T21:44:44.191+00:00', 'd70b3ebe6ac44e259ebd84ceadbd4b48'),
	('dag.diff', '', 5, 'change_set', '2026-01-02T00:00:00Z', '{"audiences": {"a": {"entered": 1, "exited": 1, "members": 9, "updated": 8}, "b": {"entered": 1, "exited": 0, "members": 8, "updated": 7}}, "counts": {"changes": 18, "entered": 2, "exited": 1, "members": 17, "updated": 15}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "home.city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-01T00:00:00Z", "rows": 18, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260102_000000_c78235"}', '2026-11-28T21:44:44.217+00:00', 'e395200c79b742ed94638543322b11e7'),
	('dag.diff', '', 6, 'sealed', '2026-01-02T00:00:00Z', '{}', '2026-11-28T21:44:44.232+00:00', 'b6aeb4318101418bb4b7c944ac239fb5'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 13, 'profiles', '2026-01-02T00:00:00Z', '{"changes": "changes_dag_diff_17567dc9_20260102_000000_c78235", "exits_kept_seconds": 2592000, "table": "profiles_dag_diff_17567dc9_20260102_000000_85e0df"}', '2026-11-28T21:44:44.245+00:00', 'dba36c958a604f6f88c2a185d4f25b2e'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 14, 'profiles', '2026-01-02T00:00:00Z', '{"changes": "changes_dag_diff_17567dc9_20260102_000000_c78235", "exits_kept_seconds": 2592000, "slices": 3, "table": "profiles_dag_diff_17567dc9_20260102_000000_85e0df", "written": true}', '2026-11-28T21:44:44.281+00:00', 'c9fef7a9217046c8b6ce3e33979e4c1c'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 15, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "profiles_dag_diff_17567dc9_20260102_000000_85e0df"}', '2026-11-28T21:44:44.288+00:00', 'eaf9cdecd61c4078bbf6e058347b1e84'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 16, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "profiles_dag_diff_17567dc9_20260102_000000_85e0df"}', '2026-11-28T21:44:44.299+00:00', '79d1ffd7b03f43eb99e4b7c1ab0c44b6'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 17, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 6, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901890]], "below": 2}, "table": "profiles_dag_diff_17567dc9_20260102_000000_85e0df"}', '2026-11-28T21:44:44.306+00:00', '4cd56fe76c3445159b7ff97917f390b1'),
	('dag.diff', '9dd52390f98056ffa601f889911ac0d8', 18, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 8, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"adobe_profile\", \"message_bytes\": 9936, \"options\": {\"message_ids\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 17179869184], [30064771072, 30064771073]], "below": 3}, "table": "profiles_dag_diff_17567dc9_20260102_000000_85e0df"}', '2026-11-28T21:44:44.314+00:00', 'd9fc6d86867d4a138b6bc9a7825c1ab4');
INSERT INTO story_profiles.profiles_dag_diff_17567dc9_20260102_000000_85e0df VALUES
	(0, 0, 'u8', '077', 2, 1, 'm2026-01-01T00:00:00Z                    1:am2026-01-01T00:00:00Z                    1:b', 'u8@example.com', 'u8@example.com', 'Rome', 'Bern'),
	(0, 1, 'u2', '270', 1, 1, 'm2026-01-01T00:00:00Z                    1:a', 'u2@example.com', 'u2@example.com', 'Rome', 'Bern'),
	(0, 2, 'u0', '3e3', 1, 1, 'x2026-01-01T00:00:00Z2026-01-02T00:00:00Z1:a', 'u0@example.com', 'u0@example.com', 'Bern', 'Bern'),
	(0, 3, 'u5', '4d0', 2, 1, 'm2026-01-01T00:00:00Z                    1:am2026-01-01T00:00:00Z                    1:b', 'u5@example.com', 'u5@example.com', 'Rome', 'Bern'),
	(0, 4, 'u3', '532', 1, 1, 'm2026-01-01T00:00:00Z                    1:a', 'u3@example.com', 'u3@example.com', 'Rome', 'Bern'),
	(1, 5, 'u9', '548', 2, 1, 'e2026-01-02T00:00:00Z                    1:am2026-01-01T00:00:00Z                    1:b', 'u9@example.com', 'u9@example.com', 'Rome', 'Bern'),
	(1, 6, 'u7', '6bc', 2, 1, 'm2026-01-01T00:00:00Z                    1:am2026-01-01T00:00:00Z                    1:b', 'u7@example.com', 'u7@example.com', 'Rome', 'Bern'),
	(1, 7, 'u4', '7b8', 2, 1, 'm2026-01-01T00:00:00Z                    1:ae2026-01-02T00:00:00Z                    1:b', 'u4@example.com', 'u4@example.com', 'Rome', 'Bern'),
	(1, 8, 'u11', 'a4c', 1, 1, 'm2026-01-01T00:00:00Z                    1:b', 'u11@example.com', 'u11@example.com', 'Rome', 'Bern'),
	(2, 9, 'u6', 'a6a', 2, 1, 'm2026-01-01T00:00:00Z                    1:am2026-01-01T00:00:00Z                    1:b', 'u6@example.com', 'u6@example.com', 'Rome', 'Bern'),
	(2, 10, 'u10', 'cb8', 1, 1, 'm2026-01-01T00:00:00Z                    1:b', 'u10@example.com', 'u10@example.com', 'Rome', 'Bern'),
	(2, 11, 'u1', 'e47', 1, 1, 'm2026-01-01T00:00:00Z                    1:a', 'u1@example.com', 'u1@example.com', 'Rome', 'Bern');
ALTER TABLE ONLY story_profiles.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260101_000000_173f14_audience_id_idx ON story_profiles.base_dag_diff_17567dc9_20260101_000000_173f14 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_c78235_position_idx ON story_profiles.changes_dag_diff_17567dc9_20260102_000000_c78235 USING btree ("position");
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_c7823_audience_id_idx ON story_profiles.changes_dag_diff_17567dc9_20260102_000000_c78235 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX ledger_closed ON story_profiles.ledger USING btree (as_of) WHERE (event = 'closed'::text);
CREATE INDEX profiles_dag_diff_17567dc9_20260102_000000_85e0df_slice_idx ON story_profiles.profiles_dag_diff_17567dc9_20260102_000000_85e0df USING btree (slice);

CREATE SCHEMA story_closed;
CREATE TABLE story_closed.base_dag_diff_17567dc9_20260101_000000_29d13e (
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
CREATE TABLE story_closed.base_other_diff_83ea9504_20260101_000000_0e11ea (
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
CREATE TABLE story_closed.changes_dag_diff_17567dc9_20260102_000000_37423f (
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
CREATE TABLE story_closed.changes_dag_diff_17567dc9_20260103_000000_9be431 (
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
CREATE TABLE story_closed.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
INSERT INTO story_closed.base_dag_diff_17567dc9_20260101_000000_29d13e VALUES
	('member', 'a', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'a', NULL, NULL, NULL, NULL, NULL, 'A', 7, 0, NULL),
	('audience', 'b', NULL, NULL, NULL, NULL, NULL, 'B', 3, 0, NULL);
INSERT INTO story_closed.base_other_diff_83ea9504_20260101_000000_0e11ea VALUES
	('member', 'c', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'c', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'c', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'c', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'c', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'c', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'c', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'c', NULL, NULL, NULL, NULL, NULL, 'C', 7, 0, NULL);
INSERT INTO story_closed.changes_dag_diff_17567dc9_20260102_000000_37423f VALUES
	(0, 'entered', NULL, '6bc', 'a', 'u7', '2026-01-02T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'exited', NULL, '3e3', 'a', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'A', 7, 0, NULL),
	(NULL, 'audience', NULL, NULL, 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'B', 3, 0, NULL);
INSERT INTO story_closed.changes_dag_diff_17567dc9_20260103_000000_9be431 VALUES
	(0, 'exited', NULL, '270', 'a', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(1, 'exited', NULL, '4d0', 'a', 'u5', '2026-01-01T00:00:00Z', NULL, NULL, 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(2, 'exited', NULL, '532', 'a', 'u3', '2026-01-01T00:00:00Z', NULL, NULL, 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(3, 'exited', NULL, '6bc', 'a', 'u7', '2026-01-02T00:00:00Z', NULL, NULL, 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(4, 'exited', NULL, '7b8', 'a', 'u4', '2026-01-01T00:00:00Z', NULL, NULL, 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(5, 'exited', NULL, 'a6a', 'a', 'u6', '2026-01-01T00:00:00Z', NULL, NULL, 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(6, 'exited', NULL, 'e47', 'a', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(7, 'exited', NULL, '270', 'b', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(8, 'exited', NULL, '3e3', 'b', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(9, 'exited', NULL, 'e47', 'b', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'A', 7, 0, NULL),
	(NULL, 'audience', NULL, NULL, 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'B', 3, 0, NULL);
INSERT INTO story_closed.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_29d13e"}', '2026-11-28T21:44:51.879+00:00', '0478f389a1074fa39699cd5292a06451'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"a": {"entered": 7, "exited": 0, "members": 7, "updated": 0}, "b": {"entered": 3, "exited": 0, "members": 3, "updated": 0}}, "counts": {"changes": 10, "entered": 10, "exited": 0, "members": 10, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 10, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_29d13e"}', '2026-11-28T21:44:51.899+00:00', '266d0228eeb54f2dbae8341a5d4050a7'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:51.908+00:00', '707cd1e7ab3f4c5d849022687e2a79f4'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/first", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:51.914+00:00', 'e57049c8ba99481a8faab8da793a7f3b'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_ddc44d"}', '2026-11-28T21:44:51.927+00:00', 'eee1763a7c5c4ad680572612ef21c992'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_ddc44d", "written": true}', '2026-11-28T21:44:51.942+00:00', 'f3202284c141488fa9965f90abc4ccad'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_ddc44d"}', '2026-11-28T21:44:51.956+00:00', '8ad4f53daa384ae4ad3bec46f1472c94'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_ddc44d"}', '2026-11-28T21:44:51.976+00:00', 'a88c01e84fa44aadae172ae0f98f8044'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 10, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[17179869184, 21474836480], [25769803776, 34359738368]], "below": 12884901888}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_ddc44d"}', '2026-11-28T21:44:51.989+00:00', '523da623ddab498da42d5633eff21bce'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_ddc44d"}', '2026-11-28T21:44:52.003+00:00', 'fc7f3df603cb4596863ebe28511bfcfb'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:52.007+00:00', 'cf6d1529edf74b3a8c2f398d1b21f906'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/second", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:52.017+00:00', 'e45bdbad554b42d7a4ee1d5b60f7fd90'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_c6e1b5"}', '2026-11-28T21:44:52.029+00:00', 'd2151f4872ad48b1be41e2f23d9f16b6'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_c6e1b5", "written": true}', '2026-11-28T21:44:52.047+00:00', '3c8715fb09aa4742a542e84655cf716c'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_c6e1b5"}', '2026-11-28T21:44:52.055+00:00', 'a611b2120b8c4401b9823b9072e8ee13'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_c6e1b5"}', '2026-11-28T21:44:52.064+00:00', '7910dfc6dd79431c8d36f2300c37a53a'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 10, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[17179869184, 21474836480], [25769803776, 34359738368]], "below": 12884901888}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_c6e1b5"}', '2026-11-28T21:44:52.073+00:00', 'f41f4a3819c346a0b8c5c35518f397a9'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_c6e1b5"}', '2026-11-28T21:44:52.090+00:00', 'd1b134e9b7714c1fb6973f44654dafca'),
	('dag.diff', 'be15e681c7605907b9f0fa55a66bb465', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:52.093+00:00', 'bebac840c5da49179d463477a0b5596c'),
	('other.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_other_diff_83ea9504_20260101_000000_0e11ea"}', '2026-11-28T21:44:52.115+00:00', '80fcab5164f343149b5dbf80269bb7ac'),
	('dag.diff', '', 4, 'started', '2026-01-02T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260102_000000_37423f"}', '2026-11-28T21:44:52.251+00:00', '354b6574dfe64947b24441565e8e79ac'),
	('other.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"c": {"entered": 7, "exited": 0, "members": 7, "updated": 0}}, "counts": {"changes": 7, "entered": 7, "exited": 0, "members": 7, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 7, "slice_rows": 7, "table": "base_other_diff_83ea9504_20260101_000000_0e11ea"}', '2026-11-28T21:44:52.131+00:00', 'e7d867f23a3c4365a75812a6184ab178'),
	('other.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:52.142+00:00', '96b191802f204cc69e6fb963a1b0a6cb'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/beside", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:52.149+00:00', '21eb5355143b4b688255db1f94303203'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_other_diff_83ea9504_20260101_000000_b4043d"}', '2026-11-28T21:44:52.163+00:00', '8a3052e432e64680acbbbefcb787838a'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_other_diff_83ea9504_20260101_000000_b4043d", "written": true}', '2026-11-28T21:44:52.181+00:00', '9ac1338ff76a454898436cb5c3d65b26'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_other_diff_83ea9504_20260101_000000_b4043d"}', '2026-11-28T21:44:52.192+00:00', 'a4c231a6345c44cc80686f7f73a5051b'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[4294967296, 4294967297]], "below": 1}, "table": "snapshot_other_diff_83ea9504_20260101_000000_b4043d"}', '2026-11-28T21:44:52.213+00:00', '4ca8f8e743a141b1bd5736c0acf92d30'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 7, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 12884901888}, "table": "snapshot_other_diff_83ea9504_20260101_000000_b4043d"}', '2026-11-28T21:44:52.217+00:00', '2db10b96628f4f9797f086f7dd970837'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_other_diff_83ea9504_20260101_000000_b4043d"}', '2026-11-28T21:44:52.232+00:00', '6fb99e0020c94125a98577d7b750d6d9'),
	('other.diff', '0903d68dcbd25fb0a20e239699d470d9', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:52.235+00:00', '915ccc2113174393abcc923c04735c29'),
	('dag.diff', '', 5, 'change_set', '2026-01-02T00:00:00Z', '{"audiences": {"a": {"entered": 1, "exited": 1, "members": 7, "updated": 0}, "b": {"entered": 0, "exited": 0, "members": 3, "updated": 0}}, "counts": {"changes": 2, "entered": 1, "exited": 1, "members": 10, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-01T00:00:00Z", "rows": 2, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260102_000000_37423f"}', '2026-11-28T21:44:52.280+00:00', 'e1e5131ba481425fbb197bc5e4f77832'),
	('dag.diff', '', 6, 'closed', '2026-01-03T00:00:00Z', '{"audiences": {"a": "A", "b": "B"}, "exits": true}', '2026-11-28T21:44:52.293+00:00', 'da6dc94170e648d4b313eb10568723db'),
	('dag.diff', '', 7, 'started', '2026-01-03T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260103_000000_9be431"}', '2026-11-28T21:44:52.298+00:00', '410d68dc417c40b28b93d488f4dbd095'),
	('dag.diff', '', 8, 'change_set', '2026-01-03T00:00:00Z', '{"counts": {"changes": 10, "entered": 0, "exited": 10, "members": 0, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "let_through": ["the audience was deleted"], "previous_as_of": "2026-01-02T00:00:00Z", "rows": 10, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260103_000000_9be431"}', '2026-11-28T21:44:52.320+00:00', 'bab7b7045c0545c7a62716940ad3b00a'),
	('dag.diff', '', 9, 'sealed', '2026-01-02T00:00:00Z', '{}', '2026-11-28T21:44:52.338+00:00', 'f12652d76f38497588d25a55148bec54'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 9, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260102_000000_37423f"}', '2026-11-28T21:44:52.357+00:00', 'e223aa5ba132460eb74b907b65a8169d'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 10, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[4294967296, 4294967297]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260102_000000_37423f"}', '2026-11-28T21:44:52.373+00:00', '3b6930ed59724286bd7c30fea9ae6ea9'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 11, 'delivered', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 8589934592}, "table": "changes_dag_diff_17567dc9_20260102_000000_37423f"}', '2026-11-28T21:44:52.375+00:00', '06d8dad3c07145b6baa652f8cb83aa2e'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 12, 'sending', '2026-01-03T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260103_000000_9be431"}', '2026-11-28T21:44:52.390+00:00', 'f9fa6d16fe7a463d973f4beea98a2b7c'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 13, 'checkpoint', '2026-01-03T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260103_000000_9be431"}', '2026-11-28T21:44:52.399+00:00', '171ccc1a1d3b4a7f8e3a793cbca56f50'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 14, 'delivered', '2026-01-03T00:00:00Z', '{"delivered": 10, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[17179869184, 21474836480], [25769803776, 34359738368]], "below": 12884901888}, "table": "changes_dag_diff_17567dc9_20260103_000000_9be431"}', '2026-11-28T21:44:52.408+00:00', '02cc4f0eebd44559ae63932875e2ac5a'),
	('dag.diff', '21bddca305a15d17939f07ca11268514', 15, 'detached', '2026-01-03T00:00:00Z', '{}', '2026-11-28T21:44:52.430+00:00', '9f8da558f18b4db5806936146e18624e');
ALTER TABLE ONLY story_closed.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260101_000000_29d13e_audience_id_idx ON story_closed.base_dag_diff_17567dc9_20260101_000000_29d13e USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX base_other_diff_83ea9504_20260101_000000_0e11ea_audience_id_idx ON story_closed.base_other_diff_83ea9504_20260101_000000_0e11ea USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_37423_audience_id_idx ON story_closed.changes_dag_diff_17567dc9_20260102_000000_37423f USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_37423f_position_idx ON story_closed.changes_dag_diff_17567dc9_20260102_000000_37423f USING btree ("position");
CREATE INDEX changes_dag_diff_17567dc9_20260103_000000_9be431_position_idx ON story_closed.changes_dag_diff_17567dc9_20260103_000000_9be431 USING btree ("position");
CREATE INDEX changes_dag_diff_17567dc9_20260103_000000_9be43_audience_id_idx ON story_closed.changes_dag_diff_17567dc9_20260103_000000_9be431 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX ledger_closed ON story_closed.ledger USING btree (as_of) WHERE (event = 'closed'::text);

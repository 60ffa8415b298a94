CREATE SCHEMA story_resync;
CREATE TABLE story_resync.base_dag_diff_17567dc9_20260101_000000_d57d81 (
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
CREATE TABLE story_resync.changes_dag_diff_17567dc9_20260102_000000_afcf3c (
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
CREATE TABLE story_resync.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
CREATE TABLE story_resync.snapshot_dag_diff_17567dc9_20260102_000000_f7331c (
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
INSERT INTO story_resync.base_dag_diff_17567dc9_20260101_000000_d57d81 VALUES
	('member', 'a', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u9', '2026-01-01T00:00:00Z', 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u10', '2026-01-01T00:00:00Z', 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u11', '2026-01-01T00:00:00Z', 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u12', '2026-01-01T00:00:00Z', 'u12@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'a', 'u13', '2026-01-01T00:00:00Z', 'u13@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'b', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'a', NULL, NULL, NULL, NULL, NULL, 'A', 14, 0, NULL),
	('audience', 'b', NULL, NULL, NULL, NULL, NULL, 'B', 6, 0, NULL);
INSERT INTO story_resync.changes_dag_diff_17567dc9_20260102_000000_afcf3c VALUES
	(0, 'exited', NULL, '270', 'a', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(1, 'exited', NULL, '3e3', 'a', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(2, 'exited', NULL, 'e47', 'a', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'A', 11, 0, NULL),
	(NULL, 'audience', NULL, NULL, 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'B', 6, 0, NULL);
INSERT INTO story_resync.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_d57d81"}', '2026-11-28T21:44:49.379+00:00', 'd5e9c01caa9043aebff7e9288ff61cd4'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"a": {"entered": 14, "exited": 0, "members": 14, "updated": 0}, "b": {"entered": 6, "exited": 0, "members": 6, "updated": 0}}, "counts": {"changes": 20, "entered": 20, "exited": 0, "members": 20, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 20, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_d57d81"}', '2026-11-28T21:44:49.395+00:00', '417324d11421427299d019cfda90c016'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:49.407+00:00', 'a897915b91bc487a86601d696a70f436'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/resync", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:49.413+00:00', 'df5b7325054b48edb7c8350815e9816f'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_f775ac"}', '2026-11-28T21:44:49.425+00:00', '1af2df78fda54e14bad11dd0838ce716'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_f775ac", "written": true}', '2026-11-28T21:44:49.440+00:00', '89f2ff7492de40a6baa591dc3033a4c5'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f775ac"}', '2026-11-28T21:44:49.450+00:00', '6534c35857304fbbbdf3ebfb4725aecf'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f775ac"}', '2026-11-28T21:44:49.470+00:00', '0ea3256637a643189b08b505606a3d04'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 20, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 25769803776], [30064771072, 34359738368], [42949672960, 51539607552]], "below": 4294967296}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_f775ac"}', '2026-11-28T21:44:49.486+00:00', 'aa469c86d55e49d1b5ae1b3ad58eb6cd'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_f775ac"}', '2026-11-28T21:44:49.504+00:00', '462a273304ac4a17b1f2279539ffa923'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:49.508+00:00', 'adb9cf2e21bc459e8a4e7503096cb8f6'),
	('dag.diff', '', 4, 'started', '2026-01-02T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260102_000000_afcf3c"}', '2026-11-28T21:44:49.522+00:00', '4fdeac8b747042bb93bbab088a7e9514'),
	('dag.diff', '', 5, 'change_set', '2026-01-02T00:00:00Z', '{"audiences": {"a": {"entered": 0, "exited": 3, "members": 11, "updated": 0}, "b": {"entered": 0, "exited": 0, "members": 6, "updated": 0}}, "counts": {"changes": 3, "entered": 0, "exited": 3, "members": 17, "updated": 0}, "layout": {"audience_id": null, "audience_id_column": "audience", "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"audience": "text", "uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-01T00:00:00Z", "rows": 3, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260102_000000_afcf3c"}', '2026-11-28T21:44:49.547+00:00', 'a76101f209464d4496bcb1d4cf6f6f40'),
	('dag.diff', '', 6, 'sealed', '2026-01-02T00:00:00Z', '{}', '2026-11-28T21:44:49.559+00:00', 'd5986cef01434fc9ba945102feaf6ce2'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 9, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260102_000000_afcf3c"}', '2026-11-28T21:44:49.571+00:00', 'ab35a6ee0f91487fb287451f335e5092'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 10, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260102_000000_afcf3c"}', '2026-11-28T21:44:49.583+00:00', 'f399a3e1a8674508a60f5f49dfd8e25d'),
	('dag.diff', 'af15dd78acc456eab6f9f28dc170a60d', 11, 'delivered', '2026-01-02T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 17179869184]], "below": 4294967296}, "table": "changes_dag_diff_17567dc9_20260102_000000_afcf3c"}', '2026-11-28T21:44:49.586+00:00', 'f9eab397270b4442b1d09c6625b14887'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 1, 'attached', '2026-01-02T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/resync", "message_format": "amplitude_cohort", "on_first_run": "resync"}', '2026-11-28T21:44:49.603+00:00', '619c4bb4341b410b9591d3aa7366c6c4'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 2, 'snapshot', '2026-01-02T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c"}', '2026-11-28T21:44:49.612+00:00', 'f47165a9be49405cbb4dd828e6189ea4'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 3, 'snapshot', '2026-01-02T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c", "written": true}', '2026-11-28T21:44:49.631+00:00', 'd2233bf217d74adeaffb9df45e570b51'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 4, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"resync\": \"once more\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c"}', '2026-11-28T21:44:49.645+00:00', '27026eb5ff68495bbdf413eeb5508d89'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 5, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"resync\": \"once more\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c"}', '2026-11-28T21:44:49.657+00:00', '0ba77849f81f47f88f8cb508cc6a4d4f'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 6, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 7, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"resync\": \"once more\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901890]], "below": 4294967297}, "table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c"}', '2026-11-28T21:44:49.668+00:00', '91e1f5d2d50441f2a1e05dae78a829ec'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 7, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 10, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"resync\": \"once more\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901890], [25769803776, 25769803777]], "below": 8589934593}, "table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c"}', '2026-11-28T21:44:49.676+00:00', '785f5c3661984b17a1f9c70ee37b21d3'),
	('dag.diff', '57c0b2eafcd95bc79ae9aa702bd41c53', 8, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 13, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2}, \"partitions\": 4, \"record_end\": \"\", \"resync\": \"once more\", \"version\": 1}", "settled": {"above": [[25769803776, 30064771072], [42949672960, 42949672961]], "below": 12884901891}, "table": "snapshot_dag_diff_17567dc9_20260102_000000_f7331c"}', '2026-11-28T21:44:49.678+00:00', '7056d213d3784f93a491e55b7997ecdd');
INSERT INTO story_resync.snapshot_dag_diff_17567dc9_20260102_000000_f7331c VALUES
	(0, 'entered', NULL, '077', 'a', 'u8', '2026-01-01T00:00:00Z', 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'entered', NULL, '4d0', 'a', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(2, 'entered', NULL, '532', 'a', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(3, 'entered', NULL, '548', 'a', 'u9', '2026-01-01T00:00:00Z', 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(4, 'entered', NULL, '6bc', 'a', 'u7', '2026-01-01T00:00:00Z', 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(5, 'entered', NULL, '7b8', 'a', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(6, 'entered', NULL, 'a4c', 'a', 'u11', '2026-01-01T00:00:00Z', 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(7, 'entered', NULL, 'a6a', 'a', 'u6', '2026-01-01T00:00:00Z', 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(8, 'entered', NULL, 'cb8', 'a', 'u10', '2026-01-01T00:00:00Z', 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(9, 'entered', NULL, 'e20', 'a', 'u13', '2026-01-01T00:00:00Z', 'u13@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(10, 'entered', NULL, 'e2d', 'a', 'u12', '2026-01-01T00:00:00Z', 'u12@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(11, 'exited', NULL, '270', 'a', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(12, 'exited', NULL, '3e3', 'a', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(13, 'exited', NULL, 'e47', 'a', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(14, 'entered', NULL, '270', 'b', 'u2', '2026-01-01T00:00:00Z', 'u2@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(15, 'entered', NULL, '3e3', 'b', 'u0', '2026-01-01T00:00:00Z', 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(16, 'entered', NULL, '4d0', 'b', 'u5', '2026-01-01T00:00:00Z', 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(17, 'entered', NULL, '532', 'b', 'u3', '2026-01-01T00:00:00Z', 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(18, 'entered', NULL, '7b8', 'b', 'u4', '2026-01-01T00:00:00Z', 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(19, 'entered', NULL, 'e47', 'b', 'u1', '2026-01-01T00:00:00Z', 'u1@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'a', NULL, NULL, NULL, NULL, NULL, NULL, 'A', 11, 0, NULL),
	(NULL, 'audience', NULL, NULL, 'b', NULL, NULL, NULL, NULL, NULL, NULL, 'B', 6, 0, NULL);
ALTER TABLE ONLY story_resync.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260101_000000_d57d81_audience_id_idx ON story_resync.base_dag_diff_17567dc9_20260101_000000_d57d81 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_afcf3_audience_id_idx ON story_resync.changes_dag_diff_17567dc9_20260102_000000_afcf3c USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260102_000000_afcf3c_position_idx ON story_resync.changes_dag_diff_17567dc9_20260102_000000_afcf3c USING btree ("position");
CREATE INDEX ledger_closed ON story_resync.ledger USING btree (as_of) WHERE (event = 'closed'::text);
CREATE INDEX snapshot_dag_diff_17567dc9_20260102_000000_f7331c_position_idx ON story_resync.snapshot_dag_diff_17567dc9_20260102_000000_f7331c USING btree ("position");
CREATE INDEX snapshot_dag_diff_17567dc9_20260102_000000_f733_audience_id_idx ON story_resync.snapshot_dag_diff_17567dc9_20260102_000000_f7331c USING btree (audience_id) WHERE (action = 'audience'::text);

CREATE SCHEMA story_line;
CREATE TABLE story_line.base_dag_diff_17567dc9_20260103_000000_64637b (
    action text,
    audience_id text,
    user_id text,
    member_since text,
    new_email text,
    new_city text,
    "new_retired email" text,
    "new_retired city" text,
    left_at text,
    audience_name text,
    source_rows bigint,
    invalid_rows bigint,
    wrong_identities text
);
CREATE TABLE story_line.base_dag_diff_17567dc9_20260104_000000_fe91d7 (
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
CREATE TABLE story_line.base_dag_diff_17567dc9_20260105_000000_610cda (
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
CREATE TABLE story_line.changes_dag_diff_17567dc9_20260104_000000_e3bfe8 (
    "position" bigint,
    action text,
    updated text,
    bucket text,
    audience_id text,
    user_id text,
    member_since text,
    new_email text,
    new_city text,
    "new_retired email" text,
    "new_retired city" text,
    old_email text,
    old_city text,
    "old_retired email" text,
    "old_retired city" text,
    audience_name text,
    source_rows bigint,
    invalid_rows bigint,
    wrong_identities text
);
CREATE TABLE story_line.changes_dag_diff_17567dc9_20260105_000000_a76b72 (
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
CREATE TABLE story_line.changes_dag_diff_17567dc9_20260106_000000_b76cde (
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
CREATE VIEW story_line.history_dag_diff_17567dc9 AS
 SELECT '2026-01-03T00:00:00Z'::text AS as_of,
    base_dag_diff_17567dc9_20260103_000000_64637b.audience_id,
    base_dag_diff_17567dc9_20260103_000000_64637b.user_id,
    base_dag_diff_17567dc9_20260103_000000_64637b.action,
        CASE
            WHEN false THEN base_dag_diff_17567dc9_20260103_000000_64637b.action
            ELSE NULL::text
        END AS updated,
    base_dag_diff_17567dc9_20260103_000000_64637b.member_since
   FROM story_line.base_dag_diff_17567dc9_20260103_000000_64637b
  WHERE (base_dag_diff_17567dc9_20260103_000000_64637b.action <> 'audience'::text)
UNION ALL
 SELECT '2026-01-04T00:00:00Z'::text AS as_of,
    changes_dag_diff_17567dc9_20260104_000000_e3bfe8.audience_id,
    changes_dag_diff_17567dc9_20260104_000000_e3bfe8.user_id,
    changes_dag_diff_17567dc9_20260104_000000_e3bfe8.action,
    changes_dag_diff_17567dc9_20260104_000000_e3bfe8.updated,
    changes_dag_diff_17567dc9_20260104_000000_e3bfe8.member_since
   FROM story_line.changes_dag_diff_17567dc9_20260104_000000_e3bfe8
  WHERE (changes_dag_diff_17567dc9_20260104_000000_e3bfe8.action <> 'audience'::text)
UNION ALL
 SELECT '2026-01-05T00:00:00Z'::text AS as_of,
    changes_dag_diff_17567dc9_20260105_000000_a76b72.audience_id,
    changes_dag_diff_17567dc9_20260105_000000_a76b72.user_id,
    changes_dag_diff_17567dc9_20260105_000000_a76b72.action,
    changes_dag_diff_17567dc9_20260105_000000_a76b72.updated,
    changes_dag_diff_17567dc9_20260105_000000_a76b72.member_since
   FROM story_line.changes_dag_diff_17567dc9_20260105_000000_a76b72
  WHERE (changes_dag_diff_17567dc9_20260105_000000_a76b72.action <> 'audience'::text)
UNION ALL
 SELECT '2026-01-06T00:00:00Z'::text AS as_of,
    changes_dag_diff_17567dc9_20260106_000000_b76cde.audience_id,
    changes_dag_diff_17567dc9_20260106_000000_b76cde.user_id,
    changes_dag_diff_17567dc9_20260106_000000_b76cde.action,
    changes_dag_diff_17567dc9_20260106_000000_b76cde.updated,
    changes_dag_diff_17567dc9_20260106_000000_b76cde.member_since
   FROM story_line.changes_dag_diff_17567dc9_20260106_000000_b76cde
  WHERE (changes_dag_diff_17567dc9_20260106_000000_b76cde.action <> 'audience'::text);
CREATE TABLE story_line.ledger (
    sync_id text NOT NULL,
    log text NOT NULL,
    sequence bigint NOT NULL,
    event text NOT NULL,
    as_of text NOT NULL,
    detail text NOT NULL,
    recorded_at text NOT NULL,
    token text NOT NULL
);
INSERT INTO story_line.base_dag_diff_17567dc9_20260103_000000_64637b VALUES
	('member', 'vips', 'u10', '2026-01-01T00:00:00Z', NULL, NULL, 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u11', '2026-01-01T00:00:00Z', NULL, NULL, 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u12', '2026-01-01T00:00:00Z', NULL, NULL, 'u12@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u13', '2026-01-01T00:00:00Z', NULL, NULL, 'u13@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u3', '2026-01-01T00:00:00Z', NULL, NULL, 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u4', '2026-01-01T00:00:00Z', NULL, NULL, 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u5', '2026-01-01T00:00:00Z', NULL, NULL, 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u6', '2026-01-01T00:00:00Z', NULL, NULL, 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u7', '2026-01-01T00:00:00Z', NULL, NULL, 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u8', '2026-01-01T00:00:00Z', NULL, NULL, 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u9', '2026-01-01T00:00:00Z', NULL, NULL, 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('left', 'vips', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, 'u1@example.com', 'Bern', '2026-01-02T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u21', '2026-01-02T00:00:00Z', NULL, NULL, 'u21@example.com', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('left', 'vips', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, 'u2@example.com', 'Bern', '2026-01-03T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u22', '2026-01-03T00:00:00Z', NULL, NULL, 'u22@example.com', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('audience', 'vips', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 14, 0, NULL);
INSERT INTO story_line.base_dag_diff_17567dc9_20260104_000000_fe91d7 VALUES
	('left', 'vips', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, '2026-01-02T00:00:00Z', NULL, NULL, NULL, NULL),
	('left', 'vips', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, '2026-01-03T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u0', '2026-01-01T00:00:00Z', '834766578815c94aab5692b31ccde3491d1dcda5c2e1d5e71b351582032258f6', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u10', '2026-01-01T00:00:00Z', '690cb0880ebd089d3fb1d51777d7673fbd54e2353e40c552c59b588ec7adf36e', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u11', '2026-01-01T00:00:00Z', '4b4b952b2814333207d4840cc6c8d33c5e65f3ca81272f5d699600d15e06910e', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u12', '2026-01-01T00:00:00Z', '88796b25106788a16119246123119a7b80c907ce3b6c03fc23f17174a9f0f304', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u13', '2026-01-01T00:00:00Z', '4d9b42a93af70fffabcfe235b3a885c0f4153d95d7ea7bdf6505456c82343a1a', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u21', '2026-01-02T00:00:00Z', 'b21b65ed95867ea6e95aa842af2e7a7f3f78c65da5401a7cb3f009acc260458c', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u22', '2026-01-03T00:00:00Z', '33490c05055f24ea97c7bbac867b47103a8378344c048a1f9e5a88f70d634e45', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u23', '2026-01-04T00:00:00Z', '09dd7a84f21b134be92489f21e7e8b3327f85579082dc3d7c493c0504f0901a7', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('left', 'vips', 'u3', '2026-01-01T00:00:00Z', NULL, NULL, '2026-01-04T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u4', '2026-01-01T00:00:00Z', '1bc8ae90a61655fcb28b3dc7f63f7e583725fe3d586c39b3c4172cb083209346', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u5', '2026-01-01T00:00:00Z', 'c1efeb6de5036e02bf9320eea64a7522d8e4b68e29f40b36ef68da8ed299f0ba', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u6', '2026-01-01T00:00:00Z', 'f1ea9cc0178f6801361a828297ec20eb307de88c10f478d8fb17bdf6f3ed9125', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u7', '2026-01-01T00:00:00Z', 'cd6d0095ee91f307870ffe702a64a5149c7626d44ec66d691891e14be911558c', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u8', '2026-01-01T00:00:00Z', '6761806668a881503b80476de531a82de7ec3396cb7c62e5811972a10b3f8123', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u9', '2026-01-01T00:00:00Z', '171e4665cdc99f30d26c78fd525f63c2b9b93d62a479220ca76d7ca0d36fc123', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('audience', 'vips', NULL, NULL, NULL, NULL, NULL, 'VIPS', 14, 0, NULL);
INSERT INTO story_line.base_dag_diff_17567dc9_20260105_000000_610cda VALUES
	('left', 'vips', 'u1', '2026-01-01T00:00:00Z', NULL, NULL, '2026-01-02T00:00:00Z', NULL, NULL, NULL, NULL),
	('left', 'vips', 'u2', '2026-01-01T00:00:00Z', NULL, NULL, '2026-01-03T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u22', '2026-01-03T00:00:00Z', '33490c05055f24ea97c7bbac867b47103a8378344c048a1f9e5a88f70d634e45', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u23', '2026-01-04T00:00:00Z', '09dd7a84f21b134be92489f21e7e8b3327f85579082dc3d7c493c0504f0901a7', 'Rome', NULL, NULL, NULL, NULL, NULL),
	('left', 'vips', 'u3', '2026-01-01T00:00:00Z', NULL, NULL, '2026-01-04T00:00:00Z', NULL, NULL, NULL, NULL),
	('left', 'vips', 'u0', '2026-01-01T00:00:00Z', '834766578815c94aab5692b31ccde3491d1dcda5c2e1d5e71b351582032258f6', 'Bern', '2026-01-05T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u10', '2026-01-01T00:00:00Z', '690cb0880ebd089d3fb1d51777d7673fbd54e2353e40c552c59b588ec7adf36e', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u11', '2026-01-01T00:00:00Z', '4b4b952b2814333207d4840cc6c8d33c5e65f3ca81272f5d699600d15e06910e', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u12', '2026-01-01T00:00:00Z', '88796b25106788a16119246123119a7b80c907ce3b6c03fc23f17174a9f0f304', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u13', '2026-01-01T00:00:00Z', '4d9b42a93af70fffabcfe235b3a885c0f4153d95d7ea7bdf6505456c82343a1a', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('left', 'vips', 'u21', '2026-01-02T00:00:00Z', 'b21b65ed95867ea6e95aa842af2e7a7f3f78c65da5401a7cb3f009acc260458c', 'Rome', '2026-01-05T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u30', '2026-01-05T00:00:00Z', 'cf2975b1489e4f0de37239321ad76df22995649a15c596b57a2ab8b087a7f160', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u31', '2026-01-05T00:00:00Z', 'be381198b56f6ba3babee724b4eed668dd388ee6781d66653c7f534aa3185c51', 'Bern', NULL, NULL, NULL, NULL, NULL),
	('left', 'vips', 'u4', '2026-01-01T00:00:00Z', '1bc8ae90a61655fcb28b3dc7f63f7e583725fe3d586c39b3c4172cb083209346', 'Bern', '2026-01-05T00:00:00Z', NULL, NULL, NULL, NULL),
	('left', 'vips', 'u5', '2026-01-01T00:00:00Z', 'c1efeb6de5036e02bf9320eea64a7522d8e4b68e29f40b36ef68da8ed299f0ba', 'Bern', '2026-01-05T00:00:00Z', NULL, NULL, NULL, NULL),
	('member', 'vips', 'u6', '2026-01-01T00:00:00Z', 'f1ea9cc0178f6801361a828297ec20eb307de88c10f478d8fb17bdf6f3ed9125', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u7', '2026-01-01T00:00:00Z', 'cd6d0095ee91f307870ffe702a64a5149c7626d44ec66d691891e14be911558c', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u8', '2026-01-01T00:00:00Z', '6761806668a881503b80476de531a82de7ec3396cb7c62e5811972a10b3f8123', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('member', 'vips', 'u9', '2026-01-01T00:00:00Z', '171e4665cdc99f30d26c78fd525f63c2b9b93d62a479220ca76d7ca0d36fc123', 'Oslo', NULL, NULL, NULL, NULL, NULL),
	('audience', 'vips', NULL, NULL, NULL, NULL, NULL, 'VIPS', 12, 0, NULL);
INSERT INTO story_line.changes_dag_diff_17567dc9_20260104_000000_e3bfe8 VALUES
	(0, 'entered', NULL, '45f', 'vips', 'u23', '2026-01-04T00:00:00Z', '09dd7a84f21b134be92489f21e7e8b3327f85579082dc3d7c493c0504f0901a7', 'Rome', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'exited', NULL, '532', 'vips', 'u3', '2026-01-01T00:00:00Z', NULL, NULL, NULL, NULL, NULL, NULL, 'u3@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(2, 'updated', 'both', '077', 'vips', 'u8', '2026-01-01T00:00:00Z', '6761806668a881503b80476de531a82de7ec3396cb7c62e5811972a10b3f8123', 'Bern', NULL, NULL, NULL, NULL, 'u8@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(3, 'updated', 'both', '22a', 'vips', 'u21', '2026-01-02T00:00:00Z', 'b21b65ed95867ea6e95aa842af2e7a7f3f78c65da5401a7cb3f009acc260458c', 'Rome', NULL, NULL, NULL, NULL, 'u21@example.com', 'Rome', NULL, NULL, NULL, NULL),
	(4, 'updated', 'both', '3e3', 'vips', 'u0', '2026-01-01T00:00:00Z', '834766578815c94aab5692b31ccde3491d1dcda5c2e1d5e71b351582032258f6', 'Bern', NULL, NULL, NULL, NULL, 'u0@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(5, 'updated', 'both', '4d0', 'vips', 'u5', '2026-01-01T00:00:00Z', 'c1efeb6de5036e02bf9320eea64a7522d8e4b68e29f40b36ef68da8ed299f0ba', 'Bern', NULL, NULL, NULL, NULL, 'u5@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(6, 'updated', 'both', '4da', 'vips', 'u22', '2026-01-03T00:00:00Z', '33490c05055f24ea97c7bbac867b47103a8378344c048a1f9e5a88f70d634e45', 'Rome', NULL, NULL, NULL, NULL, 'u22@example.com', 'Rome', NULL, NULL, NULL, NULL),
	(7, 'updated', 'both', '548', 'vips', 'u9', '2026-01-01T00:00:00Z', '171e4665cdc99f30d26c78fd525f63c2b9b93d62a479220ca76d7ca0d36fc123', 'Bern', NULL, NULL, NULL, NULL, 'u9@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(8, 'updated', 'both', '6bc', 'vips', 'u7', '2026-01-01T00:00:00Z', 'cd6d0095ee91f307870ffe702a64a5149c7626d44ec66d691891e14be911558c', 'Bern', NULL, NULL, NULL, NULL, 'u7@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(9, 'updated', 'both', '7b8', 'vips', 'u4', '2026-01-01T00:00:00Z', '1bc8ae90a61655fcb28b3dc7f63f7e583725fe3d586c39b3c4172cb083209346', 'Bern', NULL, NULL, NULL, NULL, 'u4@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(10, 'updated', 'both', 'a4c', 'vips', 'u11', '2026-01-01T00:00:00Z', '4b4b952b2814333207d4840cc6c8d33c5e65f3ca81272f5d699600d15e06910e', 'Bern', NULL, NULL, NULL, NULL, 'u11@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(11, 'updated', 'both', 'a6a', 'vips', 'u6', '2026-01-01T00:00:00Z', 'f1ea9cc0178f6801361a828297ec20eb307de88c10f478d8fb17bdf6f3ed9125', 'Bern', NULL, NULL, NULL, NULL, 'u6@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(12, 'updated', 'both', 'cb8', 'vips', 'u10', '2026-01-01T00:00:00Z', '690cb0880ebd089d3fb1d51777d7673fbd54e2353e40c552c59b588ec7adf36e', 'Bern', NULL, NULL, NULL, NULL, 'u10@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(13, 'updated', 'both', 'e20', 'vips', 'u13', '2026-01-01T00:00:00Z', '4d9b42a93af70fffabcfe235b3a885c0f4153d95d7ea7bdf6505456c82343a1a', 'Bern', NULL, NULL, NULL, NULL, 'u13@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(14, 'updated', 'both', 'e2d', 'vips', 'u12', '2026-01-01T00:00:00Z', '88796b25106788a16119246123119a7b80c907ce3b6c03fc23f17174a9f0f304', 'Bern', NULL, NULL, NULL, NULL, 'u12@example.com', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'vips', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 14, 0, '0,0');
INSERT INTO story_line.changes_dag_diff_17567dc9_20260105_000000_a76b72 VALUES
	(0, 'entered', NULL, '14e', 'vips', 'u30', '2026-01-05T00:00:00Z', 'cf2975b1489e4f0de37239321ad76df22995649a15c596b57a2ab8b087a7f160', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'entered', NULL, '66b', 'vips', 'u31', '2026-01-05T00:00:00Z', 'be381198b56f6ba3babee724b4eed668dd388ee6781d66653c7f534aa3185c51', 'Bern', NULL, NULL, NULL, NULL, NULL, NULL),
	(2, 'exited', NULL, '22a', 'vips', 'u21', '2026-01-02T00:00:00Z', NULL, NULL, 'b21b65ed95867ea6e95aa842af2e7a7f3f78c65da5401a7cb3f009acc260458c', 'Rome', NULL, NULL, NULL, NULL),
	(3, 'exited', NULL, '3e3', 'vips', 'u0', '2026-01-01T00:00:00Z', NULL, NULL, '834766578815c94aab5692b31ccde3491d1dcda5c2e1d5e71b351582032258f6', 'Bern', NULL, NULL, NULL, NULL),
	(4, 'exited', NULL, '4d0', 'vips', 'u5', '2026-01-01T00:00:00Z', NULL, NULL, 'c1efeb6de5036e02bf9320eea64a7522d8e4b68e29f40b36ef68da8ed299f0ba', 'Bern', NULL, NULL, NULL, NULL),
	(5, 'exited', NULL, '7b8', 'vips', 'u4', '2026-01-01T00:00:00Z', NULL, NULL, '1bc8ae90a61655fcb28b3dc7f63f7e583725fe3d586c39b3c4172cb083209346', 'Bern', NULL, NULL, NULL, NULL),
	(6, 'updated', 'properties', '077', 'vips', 'u8', '2026-01-01T00:00:00Z', '6761806668a881503b80476de531a82de7ec3396cb7c62e5811972a10b3f8123', 'Oslo', '6761806668a881503b80476de531a82de7ec3396cb7c62e5811972a10b3f8123', 'Bern', NULL, NULL, NULL, NULL),
	(7, 'updated', 'properties', '548', 'vips', 'u9', '2026-01-01T00:00:00Z', '171e4665cdc99f30d26c78fd525f63c2b9b93d62a479220ca76d7ca0d36fc123', 'Oslo', '171e4665cdc99f30d26c78fd525f63c2b9b93d62a479220ca76d7ca0d36fc123', 'Bern', NULL, NULL, NULL, NULL),
	(8, 'updated', 'properties', '6bc', 'vips', 'u7', '2026-01-01T00:00:00Z', 'cd6d0095ee91f307870ffe702a64a5149c7626d44ec66d691891e14be911558c', 'Oslo', 'cd6d0095ee91f307870ffe702a64a5149c7626d44ec66d691891e14be911558c', 'Bern', NULL, NULL, NULL, NULL),
	(9, 'updated', 'properties', 'a4c', 'vips', 'u11', '2026-01-01T00:00:00Z', '4b4b952b2814333207d4840cc6c8d33c5e65f3ca81272f5d699600d15e06910e', 'Oslo', '4b4b952b2814333207d4840cc6c8d33c5e65f3ca81272f5d699600d15e06910e', 'Bern', NULL, NULL, NULL, NULL),
	(10, 'updated', 'properties', 'a6a', 'vips', 'u6', '2026-01-01T00:00:00Z', 'f1ea9cc0178f6801361a828297ec20eb307de88c10f478d8fb17bdf6f3ed9125', 'Oslo', 'f1ea9cc0178f6801361a828297ec20eb307de88c10f478d8fb17bdf6f3ed9125', 'Bern', NULL, NULL, NULL, NULL),
	(11, 'updated', 'properties', 'cb8', 'vips', 'u10', '2026-01-01T00:00:00Z', '690cb0880ebd089d3fb1d51777d7673fbd54e2353e40c552c59b588ec7adf36e', 'Oslo', '690cb0880ebd089d3fb1d51777d7673fbd54e2353e40c552c59b588ec7adf36e', 'Bern', NULL, NULL, NULL, NULL),
	(12, 'updated', 'properties', 'e20', 'vips', 'u13', '2026-01-01T00:00:00Z', '4d9b42a93af70fffabcfe235b3a885c0f4153d95d7ea7bdf6505456c82343a1a', 'Oslo', '4d9b42a93af70fffabcfe235b3a885c0f4153d95d7ea7bdf6505456c82343a1a', 'Bern', NULL, NULL, NULL, NULL),
	(13, 'updated', 'properties', 'e2d', 'vips', 'u12', '2026-01-01T00:00:00Z', '88796b25106788a16119246123119a7b80c907ce3b6c03fc23f17174a9f0f304', 'Oslo', '88796b25106788a16119246123119a7b80c907ce3b6c03fc23f17174a9f0f304', 'Bern', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'vips', NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 12, 0, '0,0');
INSERT INTO story_line.changes_dag_diff_17567dc9_20260106_000000_b76cde VALUES
	(0, 'entered', NULL, 'a31', 'vips', 'u32', '2026-01-06T00:00:00Z', '9a193b4fb4a05326d0ad6cfdf2f01d302b6746cb3b17dd4bb74ea1ad3a8b146b', 'Paris', NULL, NULL, NULL, NULL, NULL, NULL),
	(1, 'entered', NULL, 'e47', 'vips', 'u1', '2026-01-06T00:00:00Z', '6228d577ed8b4c57b0388fbef9d63caed2ca3c1cca39bc8db1253cf22f80beae', 'Paris', NULL, NULL, NULL, NULL, NULL, NULL),
	(2, 'exited', NULL, '6bc', 'vips', 'u7', '2026-01-01T00:00:00Z', NULL, NULL, 'cd6d0095ee91f307870ffe702a64a5149c7626d44ec66d691891e14be911558c', 'Oslo', NULL, NULL, NULL, NULL),
	(NULL, 'audience', NULL, NULL, 'vips', NULL, NULL, NULL, NULL, NULL, NULL, 'VIPS', 13, 0, '0,0');
INSERT INTO story_line.ledger VALUES
	('dag.diff', '', 1, 'started', '2026-01-01T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260101_000000_3445b5"}', '2026-11-28T21:44:37.245+00:00', '41dcbbf009ba4e96aa836dc0523d45ec'),
	('dag.diff', '', 2, 'first', '2026-01-01T00:00:00Z', '{"audiences": {"vips": {"entered": 14, "exited": 0, "members": 14, "updated": 0}}, "counts": {"changes": 14, "entered": 14, "exited": 0, "members": 14, "updated": 0}, "dropped_rows": 2, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": null, "rows": 14, "slice_rows": 7, "table": "base_dag_diff_17567dc9_20260101_000000_3445b5"}', '2026-11-28T21:44:37.359+00:00', '16b1bbb73faa4ca99d965a9ee641a0a4'),
	('dag.diff', '', 3, 'sealed', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:37.369+00:00', 'ed8c43a0d2ee4db69e4c37d33d737528'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/done", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:37.375+00:00', 'f0e279f8d6f84b6daa18760237c0023a'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_ed56e3"}', '2026-11-28T21:44:37.388+00:00', '131874b3963d4a8399f86fcd5a16260e'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_ed56e3", "written": true}', '2026-11-28T21:44:37.402+00:00', '8d291616e5d94d738479dffc3ecb6ebd'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_ed56e3"}', '2026-11-28T21:44:37.415+00:00', 'a6360aa2b5224168beae4a3c33976338'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_ed56e3"}', '2026-11-28T21:44:39.041+00:00', '6458a541316a416899fbcb2567c5124a'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 14, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 17179869184], [21474836480, 25769803776], [30064771072, 34359738368]], "below": 4294967296}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_ed56e3"}', '2026-11-28T21:44:39.061+00:00', '5dd4c2f7fc1646a5b5fd9df1bf6c97a8'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_ed56e3"}', '2026-11-28T21:44:39.079+00:00', '535be20ba1124b86b7d75b51c0fa7207'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:39.085+00:00', '1299a637d9114af5884d04f672127f3f'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 1, 'attached', '2026-01-01T00:00:00Z', '{"connection": "aws_default", "destination": "kinesis://eu-west-1/half", "message_format": "amplitude_cohort", "on_first_run": "enter_all"}', '2026-11-28T21:44:39.093+00:00', '0004cab5bfc64780ac5995c533f2f172'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 2, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_bb7e50"}', '2026-11-28T21:44:39.110+00:00', '4d2f379a03e84477babbebe69f22f1bb'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 3, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_bb7e50", "written": true}', '2026-11-28T21:44:39.133+00:00', '2f50442227534cfd91495c319754ef00'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 4, 'sending', '2026-01-01T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_bb7e50"}', '2026-11-28T21:44:39.145+00:00', '42c3296ef9914ab8b41baea017cbc024'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 5, 'checkpoint', '2026-01-01T00:00:00Z', '{"delivered": 4, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_bb7e50"}', '2026-11-28T21:44:39.160+00:00', '88563033aacb48108d61a0647a061030'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 6, 'delivered', '2026-01-01T00:00:00Z', '{"delivered": 14, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 17179869184], [21474836480, 25769803776], [30064771072, 34359738368]], "below": 4294967296}, "table": "snapshot_dag_diff_17567dc9_20260101_000000_bb7e50"}', '2026-11-28T21:44:39.171+00:00', 'c871ec10e0a8407cab087b6604d1700d'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 7, 'snapshot', '2026-01-01T00:00:00Z', '{"table": "snapshot_dag_diff_17567dc9_20260101_000000_bb7e50"}', '2026-11-28T21:44:39.188+00:00', '7a70605eee274634bc6b8be684727046'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 8, 'snapshot', '2026-01-01T00:00:00Z', '{}', '2026-11-28T21:44:39.191+00:00', '7657814ccb5c4d57b432f77aaa58b53d'),
	('dag.diff', '', 4, 'started', '2026-01-02T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.217+00:00', 'c7d7f239a4f447a19148baf24f3df897'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 13, 'checkpoint', '2026-01-03T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[4294967296, 4294967297]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.517+00:00', 'f34d86cd68fe42339ed41fafb3ddfabe'),
	('dag.diff', '', 5, 'change_set', '2026-01-02T00:00:00Z', '{"audiences": {"vips": {"entered": 1, "exited": 1, "members": 14, "updated": 1}}, "counts": {"changes": 3, "entered": 1, "exited": 1, "members": 14, "updated": 1}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-01T00:00:00Z", "rows": 3, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.249+00:00', '582eba98e3b644148e8614f5af4bee2e'),
	('dag.diff', '', 6, 'sealed', '2026-01-02T00:00:00Z', '{}', '2026-11-28T21:44:39.273+00:00', '2c1b519e0e36484781d602d3090c536e'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 9, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.291+00:00', 'e7a3baf0f0ec49bca6e391f117037b8d'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 10, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.310+00:00', 'd1abf817782f4744a53566b47a8b0ff2'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 11, 'delivered', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 1, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 17179869184]], "below": 4294967296}, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.321+00:00', '398f5731f84843e8bc9861dd2b6c5216'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 9, 'sending', '2026-01-02T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.356+00:00', '677b9f47500e4befba115aa47044e7ce'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 10, 'checkpoint', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.366+00:00', '34f1329cf3d542918f97a5a3b4bd5da5'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 11, 'delivered', '2026-01-02T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 1, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 17179869184]], "below": 4294967296}, "table": "changes_dag_diff_17567dc9_20260102_000000_209fee"}', '2026-11-28T21:44:39.369+00:00', 'c8314797f8cd489f97657de6a0e498f5'),
	('dag.diff', '', 7, 'started', '2026-01-02T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260102_000000_2588c9"}', '2026-11-28T21:44:39.397+00:00', 'dc1d4140986b42b9b4a043a63b6cef32'),
	('dag.diff', '', 8, 'base', '2026-01-02T00:00:00Z', '{"layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "table": "base_dag_diff_17567dc9_20260102_000000_2588c9"}', '2026-11-28T21:44:39.415+00:00', '0f0d5603ee8b4fb1bd2b8f1e4aacb552'),
	('dag.diff', '', 9, 'started', '2026-01-03T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.418+00:00', '76608b72e03944fb810b877c0cef6224'),
	('dag.diff', '', 10, 'change_set', '2026-01-03T00:00:00Z', '{"audiences": {"vips": {"entered": 1, "exited": 1, "members": 14, "updated": 0}}, "counts": {"changes": 2, "entered": 1, "exited": 1, "members": 14, "updated": 0}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "city", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-02T00:00:00Z", "rows": 2, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.445+00:00', '209b84999e9f43a1919a4459ce2f22c7'),
	('dag.diff', '', 11, 'retired', '2026-01-03T00:00:00Z', '{"tables": ["base_dag_diff_17567dc9_20260101_000000_3445b5", "changes_dag_diff_17567dc9_20260102_000000_209fee"]}', '2026-11-28T21:44:39.456+00:00', '999418f3b72d40929683be236a5bf371'),
	('dag.diff', '', 12, 'dropped', '2026-01-03T00:00:00Z', '{"tables": ["base_dag_diff_17567dc9_20260101_000000_3445b5", "changes_dag_diff_17567dc9_20260102_000000_209fee"]}', '2026-11-28T21:44:39.463+00:00', 'b62ea40bc5fb4fffa5550018fc18097e'),
	('dag.diff', '', 13, 'sealed', '2026-01-03T00:00:00Z', '{}', '2026-11-28T21:44:39.477+00:00', '4ebef1c1070645f087d80c2600888d8a'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 12, 'sending', '2026-01-03T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.499+00:00', '66fd35231cfc404f9ea9466f0defe29d'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 14, 'delivered', '2026-01-03T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 8589934592}, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.520+00:00', 'e1c703c35700438690b38f6194004a04'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 12, 'sending', '2026-01-03T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.561+00:00', 'ecb0b1ba65bc48b8ad2e728776086291'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 13, 'checkpoint', '2026-01-03T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[4294967296, 4294967297]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.575+00:00', '87445afc540e469aae9815f5198c1c5f'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 14, 'delivered', '2026-01-03T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 8589934592}, "table": "changes_dag_diff_17567dc9_20260103_000000_fdd06a"}', '2026-11-28T21:44:39.577+00:00', 'f6e19fc542ed4752b0118ebb9a79ce6c'),
	('dag.diff', '', 14, 'started', '2026-01-03T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260103_000000_64637b"}', '2026-11-28T21:44:39.610+00:00', 'a5df1102dff14a2eb3129cd9423b76ea'),
	('dag.diff', '', 15, 'base', '2026-01-03T00:00:00Z', '{"layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "sha256", "hashed": "", "normalize": "email"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "town", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}, {"kind": "text", "label": "email", "retired": true, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "retired email"}, {"kind": "text", "label": "city", "retired": true, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "retired city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "table": "base_dag_diff_17567dc9_20260103_000000_64637b"}', '2026-11-28T21:44:39.631+00:00', '6412893a695e4d40b9efcbd65114c43d'),
	('dag.diff', '', 16, 'started', '2026-01-04T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.635+00:00', 'd863c1deddaf43daae53847dd47359ef'),
	('dag.diff', '', 17, 'change_set', '2026-01-04T00:00:00Z', '{"audiences": {"vips": {"entered": 1, "exited": 1, "members": 14, "updated": 13}}, "counts": {"changes": 15, "entered": 1, "exited": 1, "members": 14, "updated": 13}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "sha256", "hashed": "", "normalize": "email"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "town", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}, {"kind": "text", "label": "email", "retired": true, "role": "identity", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "email", "state": "retired email"}, {"kind": "text", "label": "city", "retired": true, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "retired city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-03T00:00:00Z", "rows": 15, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.671+00:00', '4b3c5cd55b0b473196b8fd1924089e22'),
	('dag.diff', '', 18, 'sealed', '2026-01-04T00:00:00Z', '{}', '2026-11-28T21:44:39.694+00:00', 'e1511cd6b2b6466793971d9351e1df96'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 15, 'sending', '2026-01-04T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.710+00:00', '667206a36d1747a490e0e092f23260b2'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 16, 'checkpoint', '2026-01-04T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.730+00:00', 'fb4b110dc5aa43498faf2c2e5a5f524f'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 17, 'delivered', '2026-01-04T00:00:00Z', '{"delivered": 15, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 21474836480], [30064771072, 34359738368], [42949672960, 51539607552]], "below": 4294967296}, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.748+00:00', 'f678d6d1f24943eaad50446ee45d8697'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 15, 'sending', '2026-01-04T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.782+00:00', 'a54a7996163248298236209e92b148c7');
INSERT INTO story_line.ledger VALUES
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 16, 'checkpoint', '2026-01-04T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 12884901889]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.794+00:00', 'c5cad657bc4c4d299039ab6c63503c34'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 17, 'delivered', '2026-01-04T00:00:00Z', '{"delivered": 15, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[12884901888, 21474836480], [30064771072, 34359738368], [42949672960, 51539607552]], "below": 4294967296}, "table": "changes_dag_diff_17567dc9_20260104_000000_e3bfe8"}', '2026-11-28T21:44:39.812+00:00', 'df8f02a5d7c747e6b2985515995ed67a'),
	('dag.diff', '', 19, 'started', '2026-01-04T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260104_000000_fe91d7"}', '2026-11-28T21:44:39.846+00:00', '1860fa66dd634cf6b0f93b915a2cf448'),
	('dag.diff', '', 20, 'base', '2026-01-04T00:00:00Z', '{"layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "sha256", "hashed": "", "normalize": "email"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "town", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "table": "base_dag_diff_17567dc9_20260104_000000_fe91d7"}', '2026-11-28T21:44:39.866+00:00', 'd7b218d6e4cf4582849826883051dc1a'),
	('dag.diff', '', 21, 'started', '2026-01-05T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:39.870+00:00', '70ccf5a790534e1eaae1de6bdeee64d4'),
	('dag.diff', '', 22, 'change_set', '2026-01-05T00:00:00Z', '{"audiences": {"vips": {"entered": 2, "exited": 4, "members": 12, "updated": 8}}, "counts": {"changes": 14, "entered": 2, "exited": 4, "members": 12, "updated": 8}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "sha256", "hashed": "", "normalize": "email"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "town", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "let_through": ["audience ''vips'': 4 of 14 members would exit (max_exits is 1)"], "previous_as_of": "2026-01-04T00:00:00Z", "rows": 14, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:39.896+00:00', 'a77fa4764e0f4948a9687064580c8d66'),
	('dag.diff', '', 23, 'retired', '2026-01-05T00:00:00Z', '{"tables": ["base_dag_diff_17567dc9_20260102_000000_2588c9", "changes_dag_diff_17567dc9_20260103_000000_fdd06a"]}', '2026-11-28T21:44:39.910+00:00', 'bf412320b3fa43348f8bd52bcb48ccb9'),
	('dag.diff', '', 24, 'dropped', '2026-01-05T00:00:00Z', '{"tables": ["base_dag_diff_17567dc9_20260102_000000_2588c9", "changes_dag_diff_17567dc9_20260103_000000_fdd06a"]}', '2026-11-28T21:44:39.917+00:00', '1b3673f026334ced8d4aead3322fdc43'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 18, 'sending', '2026-01-05T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:39.944+00:00', 'fbbe99ab28d1465083a42db623c5ec02'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 19, 'checkpoint', '2026-01-05T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:39.958+00:00', '8ac9e045e73549598c4e6a19cbca8eb6'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 20, 'delivered', '2026-01-05T00:00:00Z', '{"delivered": 14, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 17179869184], [21474836480, 25769803776], [30064771072, 34359738368]], "below": 4294967296}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:39.972+00:00', '72e37bb952b94839b62959237eab4533'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 18, 'sending', '2026-01-05T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:40.011+00:00', 'cae529cbbcee4ddc863d64c3767349bd'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 19, 'checkpoint', '2026-01-05T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934593]], "below": 1}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:40.024+00:00', '2bc029ebf87840b9a2695d094ec44f17'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 20, 'checkpoint', '2026-01-05T00:00:00Z', '{"delivered": 6, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 8589934594]], "below": 2}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:40.035+00:00', 'b9eba622739d4261a3a357d3dd021ad3'),
	('dag.diff', '5b89ad6a97f05821ae9096634677e493', 21, 'checkpoint', '2026-01-05T00:00:00Z', '{"delivered": 9, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[8589934592, 12884901888], [21474836480, 21474836481]], "below": 3}, "table": "changes_dag_diff_17567dc9_20260105_000000_a76b72"}', '2026-11-28T21:44:40.039+00:00', '8c96c0cb82e943f98ff12b4e5501eaa8'),
	('dag.diff', '', 25, 'started', '2026-01-05T00:00:00Z', '{"table": "base_dag_diff_17567dc9_20260105_000000_610cda"}', '2026-11-28T21:44:40.068+00:00', '427660cd5f944f57a3fc13e4e2ff944c'),
	('dag.diff', '', 26, 'base', '2026-01-05T00:00:00Z', '{"layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "sha256", "hashed": "", "normalize": "email"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "town", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "table": "base_dag_diff_17567dc9_20260105_000000_610cda"}', '2026-11-28T21:44:40.087+00:00', '31785aa7dd1544238b5e75a3e4e04f59'),
	('dag.diff', '', 27, 'started', '2026-01-06T00:00:00Z', '{"table": "changes_dag_diff_17567dc9_20260106_000000_b76cde"}', '2026-11-28T21:44:40.090+00:00', '948ecfd8e37c473585c5fb161b299fe6'),
	('dag.diff', '', 28, 'change_set', '2026-01-06T00:00:00Z', '{"audiences": {"vips": {"entered": 2, "exited": 1, "members": 13, "updated": 0}}, "counts": {"changes": 3, "entered": 2, "exited": 1, "members": 13, "updated": 0}, "layout": {"audience_id": "vips", "audience_id_column": null, "columns": [{"kind": "text", "label": "email", "retired": false, "role": "identity", "rule": {"hash": "sha256", "hashed": "", "normalize": "email"}, "several": false, "source": "email", "state": "email"}, {"kind": "text", "label": "town", "retired": false, "role": "property", "rule": {"hash": "", "hashed": "", "normalize": "none"}, "several": false, "source": "city", "state": "city"}], "fingerprint": null, "key_types": {"uid": "text"}, "user_id": "uid"}, "previous_as_of": "2026-01-05T00:00:00Z", "rows": 3, "slice_rows": 7, "table": "changes_dag_diff_17567dc9_20260106_000000_b76cde"}', '2026-11-28T21:44:40.122+00:00', 'a1f056b5d22640d08839432d5d39f910'),
	('dag.diff', '', 29, 'sealed', '2026-01-06T00:00:00Z', '{}', '2026-11-28T21:44:40.145+00:00', '46c538859de8408ca0dadef4e402dff6'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 21, 'sending', '2026-01-06T00:00:00Z', '{"delivered": 0, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [], "below": 0}, "table": "changes_dag_diff_17567dc9_20260106_000000_b76cde"}', '2026-11-28T21:44:40.162+00:00', '08e5f894e7c4421e8049eb2bd1297372'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 22, 'checkpoint', '2026-01-06T00:00:00Z', '{"delivered": 2, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[4294967296, 4294967297], [8589934592, 8589934593]], "below": 0}, "table": "changes_dag_diff_17567dc9_20260106_000000_b76cde"}', '2026-11-28T21:44:40.180+00:00', 'b464c855198a4626a3d87f26e94c1b6f'),
	('dag.diff', 'a70f6eb221b053f6a96a9d479788afbf', 23, 'delivered', '2026-01-06T00:00:00Z', '{"delivered": 3, "excluded": 0, "feeds": 4, "omitted": 0, "rejected": 0, "rendering": "{\"format\": \"amplitude_cohort\", \"message_bytes\": 9936, \"options\": {\"max_users\": 2, \"user_properties\": true}, \"partitions\": 4, \"record_end\": \"\", \"version\": 1}", "settled": {"above": [[4294967296, 17179869184]], "below": 0}, "table": "changes_dag_diff_17567dc9_20260106_000000_b76cde"}', '2026-11-28T21:44:40.185+00:00', '75e5fd31ebf749cba02a0b2bdcb56888');
ALTER TABLE ONLY story_line.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (sync_id, log, sequence);
CREATE INDEX base_dag_diff_17567dc9_20260103_000000_64637b_audience_id_idx ON story_line.base_dag_diff_17567dc9_20260103_000000_64637b USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX base_dag_diff_17567dc9_20260104_000000_fe91d7_audience_id_idx ON story_line.base_dag_diff_17567dc9_20260104_000000_fe91d7 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX base_dag_diff_17567dc9_20260105_000000_610cda_audience_id_idx ON story_line.base_dag_diff_17567dc9_20260105_000000_610cda USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260104_000000_e3bfe8_position_idx ON story_line.changes_dag_diff_17567dc9_20260104_000000_e3bfe8 USING btree ("position");
CREATE INDEX changes_dag_diff_17567dc9_20260104_000000_e3bfe_audience_id_idx ON story_line.changes_dag_diff_17567dc9_20260104_000000_e3bfe8 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260105_000000_a76b72_position_idx ON story_line.changes_dag_diff_17567dc9_20260105_000000_a76b72 USING btree ("position");
CREATE INDEX changes_dag_diff_17567dc9_20260105_000000_a76b7_audience_id_idx ON story_line.changes_dag_diff_17567dc9_20260105_000000_a76b72 USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260106_000000_b76cd_audience_id_idx ON story_line.changes_dag_diff_17567dc9_20260106_000000_b76cde USING btree (audience_id) WHERE (action = 'audience'::text);
CREATE INDEX changes_dag_diff_17567dc9_20260106_000000_b76cde_position_idx ON story_line.changes_dag_diff_17567dc9_20260106_000000_b76cde USING btree ("position");
CREATE INDEX ledger_closed ON story_line.ledger USING btree (as_of) WHERE (event = 'closed'::text);

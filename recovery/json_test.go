package recovery

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/projection"
)

// The JSON of a decision has all keys in the documented order, also those without a value. Numbers
// such as group 0 are not left out.
func TestDecision_JSON(t *testing.T) {
	h := newHistory(t)
	h.run(migration(1), move{0, 0, 0, 0}, checkpoint.PhaseCatchUp)
	h.upsert(migration(2), 3, checkpoint.CatchUp{VShardID: 5})
	abort := begun(h, migration(1), true, false, false)
	unknown, _ := h.view.Get(migration(2))
	members := MemberOf(1)
	for _, c := range []struct {
		name, want string
		row        projection.Row
		policy     Policy
	}{
		{"abort", `{"migration_id":"01000000-0000-0000-0000-000000000001","vshard_id":0,"seq":2,"phase":"CatchUp","attempt":0,` +
			`"decision":"abort","reason":"abort_unfinished","next_phase":null,` +
			`"compensations":[{"kind":"RestoreLeaderHint","group_id":9,"peer_id":1},{"kind":"RemoveGhostStub","group_id":0,"peer_id":0,"vshard_id":7}],` +
			`"compensated":[{"kind":"RemoveVoter","group_id":9,"peer_id":3}],"asks":[],` +
			`"inputs":{"now_ms":1795399697650,"ts_ms":1795399697649,"age_ms":1,"abort_timeout_ms":3600000,"source_node":0,"target_node":0,"source_group":0,` +
			`"furthest_phase":"CatchUp","target_member":false,"group_leader":0,"doubt":"none","source_uncertain":false,"target_uncertain":false}}`,
			abort, Policy{Member: members, Leader: func(uint64) (uint64, bool) { return 0, true }}},
		{"ask", `{"migration_id":"01000000-0000-0000-0000-000000000002","vshard_id":5,"seq":3,"phase":"CatchUp","attempt":3,` +
			`"decision":"ask","reason":"target_unknown","next_phase":null,"compensations":[],"compensated":[],"asks":[{"what":"target"}],` +
			`"inputs":{"now_ms":1795399697650,"ts_ms":1795399697649,"age_ms":1,"abort_timeout_ms":3600000,"source_node":null,"target_node":null,"source_group":null,` +
			`"furthest_phase":"CatchUp","target_member":null,"group_leader":null,"doubt":"none","source_uncertain":false,"target_uncertain":false}}`,
			unknown, Policy{Member: members, Leader: func(uint64) (uint64, bool) { return 0, true }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := json.Marshal(Plan([]projection.Row{c.row}, c.policy, startMS+1)[0])
			require.NoError(t, err)
			require.Equal(t, c.want, string(b))
		})
	}
	row, _ := h.view.Get(migration(1))
	for doubt, want := range map[projection.Doubt]string{projection.Superseded: `"superseded"`, projection.InDoubt: `"in doubt"`} {
		row.Doubt = doubt
		b, err := json.Marshal(Plan([]projection.Row{row}, Policy{TrustDoubt: true}, startMS)[0])
		require.NoError(t, err)
		require.Contains(t, string(b), `"reason":"fresh","next_phase":"PromoteLearner"`)
		require.Contains(t, string(b), `"target_member":null,"group_leader":null,"doubt":`+want)
	}
	b, err := json.Marshal(Plan(nil, Policy{UnnamedInDoubt: true}, startMS)[0])
	require.NoError(t, err)
	require.Equal(t, `{"migration_id":null,"decision":"ask","reason":"unnamed_in_doubt","asks":[{"what":"migrations"}]}`, string(b))
}

// The JSON of a question has the keys of its topic, also with the value 0.
func TestAsk_JSON(t *testing.T) {
	for topic, want := range map[Topic]string{
		TopicRow:        `{"what":"row"}`,
		TopicEvent:      `{"what":"event","seq":0}`,
		TopicTarget:     `{"what":"target"}`,
		TopicMembership: `{"what":"membership","node":0}`,
		TopicLeader:     `{"what":"leader","group_id":0}`,
		TopicPeer:       `{"what":"peer","group_id":0,"peer_id":0}`,
		TopicVShard:     `{"what":"vshard","vshard_id":0}`,
		TopicMigrations: `{"what":"migrations"}`,
	} {
		b, err := json.Marshal(Ask{Topic: topic})
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}
}

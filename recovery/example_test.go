package recovery_test

import (
	"fmt"
	"os"
	"slices"
	"time"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/recovery"
)

// A coordinator that starts plans the next step of each migration of its predecessor.
func ExamplePlan() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)
	store, err := migrationlog.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	began := time.Date(2026, 11, 23, 14, 5, 0, 0, time.UTC)
	for _, step := range []checkpoint.Payload{
		checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 3, SourceGroup: 9},
		checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: 42},
	} {
		c, err := checkpoint.New(checkpoint.MigrationID{15: 1}, 0, step, uint64(began.UnixMilli()))
		if err != nil {
			panic(err)
		}
		if _, err := store.Upsert(c); err != nil {
			panic(err)
		}
	}

	policy := recovery.Policy{
		Member:         recovery.MemberOf(1, 2, 3),
		Leader:         func(group uint64) (node uint64, ok bool) { return 1, true }, // ask the group
		UnnamedInDoubt: store.Report().UnnamedInDoubt,
	}
	for _, now := range []time.Time{began.Add(time.Minute), began.Add(2 * time.Hour)} {
		for _, d := range recovery.Plan(slices.Collect(store.Rows()), policy, uint64(now.UnixMilli())) {
			switch d.Action {
			case recovery.Resume:
				fmt.Println("resume with", d.NextPhase)
			case recovery.Abort:
				fmt.Println("abort, because it is", d.Reason)
				for _, step := range d.Compensations {
					fmt.Println(" ", step.Kind, step.PeerID, "of group", step.GroupID)
				}
			case recovery.CleanUp:
				fmt.Println("remove the row")
			case recovery.AskFirst:
				fmt.Println("ask", d.Asks)
			}
		}
	}
	// Output:
	// resume with PromoteLearner
	// abort, because it is stale
	//   RemoveLearner 3 of group 9
}

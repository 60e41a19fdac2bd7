package migrationlog_test

import (
	"fmt"
	"os"

	"migrationlog"
	"migrationlog/checkpoint"
)

func Example() {
	dir, _ := os.MkdirTemp("", "coordinator-")
	defer os.RemoveAll(dir)

	store, err := migrationlog.Open(dir, nil) // also recovers after a crash
	if err != nil {
		panic(err)
	}
	defer store.Close()

	id := checkpoint.NewMigrationID()
	first, err := checkpoint.New(id, 0, checkpoint.AddLearner{VShardID: 7, SourceNode: 1, TargetNode: 4, SourceGroup: 70}, 1795399697649)
	if err != nil {
		panic(err)
	}
	receipt, err := store.Upsert(first) // returns after the event is durable
	latest, _ := store.Get(id)
	fmt.Println(receipt.Seq, latest.Phase(), err)
	// Output: 1 AddLearner <nil>
}

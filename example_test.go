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

	store, err := migrationlog.Open(dir, nil) // recovers whatever a crash left
	if err != nil {
		panic(err)
	}
	defer store.Close()

	id := checkpoint.NewMigrationID()
	step, err := checkpoint.New(id, 0, checkpoint.CatchUp{VShardID: 7, LearnerLogIndexAtAdd: 42}, 1795399697649)
	if err != nil {
		panic(err)
	}
	receipt, err := store.Upsert(step) // returns when it is on the device
	latest, _ := store.Get(id)
	fmt.Println(receipt.Seq, latest.Phase(), err)
	// Output: 1 CatchUp <nil>
}

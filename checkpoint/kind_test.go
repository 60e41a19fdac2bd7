package checkpoint_test

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
)

// A kind that has a constant has a name, an effect and an event, which is encoded as that kind
// and decoded again. An event type has a kind.
func TestKinds_AreComplete(t *testing.T) {
	scope := packageScope(t)
	example := map[checkpoint.Kind]checkpoint.Event{}
	exampleOf := map[string]checkpoint.Event{}
	for _, e := range exampleEvents(t) {
		example[checkpoint.KindOf(e)] = e
		exampleOf[reflect.TypeOf(e).Name()] = e
	}
	constants := map[checkpoint.Kind]string{}
	for _, name := range scope.Names() {
		switch o := scope.Lookup(name).(type) {
		case *types.Const:
			n, _ := constant.Uint64Val(o.Val())
			switch typeName(o.Type()) {
			case "Kind":
				constants[checkpoint.Kind(n)] = name
			case "Effect":
				require.NotContains(t, checkpoint.Effect(n).String(), "(", "%s has no name: add it to effectNames", name)
			}
		case *types.TypeName:
			if _, isInterface := o.Type().Underlying().(*types.Interface); !isInterface && hasMethod(o.Type(), "sealedEvent") {
				require.Contains(t, exampleOf, name, "no example of this event type: add one to exampleEvents")
				require.NotZero(t, checkpoint.KindOf(exampleOf[name]), "%s has no kind: add a case to KindOf", name)
			}
		}
	}
	for k, name := range constants {
		require.NotEqual(t, checkpoint.EffectUnknown, k.Effect(), "%s has no effect: add a line to the table kinds", name)
		require.NotContains(t, k.String(), "(", "%s has no name: add a line to the table kinds", name)
		require.Contains(t, checkpoint.Kinds(), k)
		require.Contains(t, example, k, "no example of %s: add one to exampleEvents", name)
		b, err := checkpoint.EncodeEvent(example[k])
		require.NoError(t, err)
		kind, ok := checkpoint.PeekKind(b)
		require.True(t, ok)
		require.Equal(t, k, kind)
		back, err := checkpoint.DecodeEvent(b)
		require.NoError(t, err)
		require.Equal(t, example[k], back)
	}
	require.Len(t, checkpoint.Kinds(), len(constants), "a kind has a line in the table kinds and no constant")
	require.IsIncreasing(t, checkpoint.Kinds())
}

// An upserted event is the latest row. The kinds after which a migration has no row, and their
// names and numbers, are fixed.
func TestKinds_Effects(t *testing.T) {
	require.Equal(t, checkpoint.EffectRow, checkpoint.KindUpserted.Effect())
	require.Equal(t, checkpoint.EffectEnd, checkpoint.KindAborted.Effect())
	require.Equal(t, checkpoint.EffectEnd, checkpoint.KindRemoved.Effect())
	require.Equal(t, checkpoint.EffectAbort, checkpoint.KindAbortBegun.Effect())
	require.Equal(t, checkpoint.EffectAbort, checkpoint.KindCompensated.Effect())
	require.Equal(t, checkpoint.EffectNone, checkpoint.KindEpochRaised.Effect())
	require.Equal(t, checkpoint.EffectNone, checkpoint.KindDigest.Effect())
	require.Equal(t, checkpoint.EffectRow, checkpoint.KindRestored.Effect())
	var names []string
	for k := checkpoint.Kind(1); k <= 8; k++ {
		names = append(names, k.String())
	}
	require.Equal(t, "upserted, aborted, removed, abort_begun, compensated, epoch_raised, digest, restored", strings.Join(names, ", "))
	for _, k := range []checkpoint.Kind{0, 200, 255} {
		require.Equal(t, checkpoint.EffectUnknown, k.Effect())
		require.NotContains(t, checkpoint.Kinds(), k)
	}
	require.Equal(t, "Kind(200)", checkpoint.Kind(200).String())
	require.Equal(t, "Effect(9)", checkpoint.Effect(9).String())
	for _, e := range []checkpoint.Event{nil, &checkpoint.Removed{}, (*checkpoint.Upserted)(nil)} {
		require.Zero(t, checkpoint.KindOf(e))
	}
}

// Peek returns the kind and the migration of every event, and of every part that has them.
func TestPeek_ReturnsKindAndMigration(t *testing.T) {
	for _, e := range exampleEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		for size := range len(b) + 1 {
			kind, id, ok := checkpoint.Peek(b[:size])
			require.Equal(t, size >= 21, ok, "%d bytes", size)
			if ok {
				require.Equal(t, checkpoint.KindOf(e), kind)
				require.Equal(t, e.Migration(), id)
			}
		}
		eachMutation(b, func(mutated []byte) {
			kind, id, ok := checkpoint.Peek(mutated)
			laidOut := len(mutated) >= 21 && mutated[0]>>5 == 5 && mutated[1] == 1 && mutated[2] > 0 && mutated[2] < 24 &&
				mutated[3] == 2 && mutated[4] == 0x50
			if ok != laidOut || ok && (byte(kind) != mutated[2] || id != checkpoint.MigrationID(mutated[5:])) {
				t.Fatalf("%x: Peek %v %v %v", mutated, kind, id, ok)
			}
		})
	}
	newer := append([]byte{0xA3, 1, 17, 2, 0x50}, make([]byte, 20)...)
	kind, ok := checkpoint.PeekKind(newer)
	require.Equal(t, checkpoint.Kind(17), kind)
	require.False(t, ok, "this version does not know it")
	kind, _, ok = checkpoint.Peek(newer)
	require.Equal(t, checkpoint.Kind(17), kind)
	require.True(t, ok, "its migration is found all the same")
}

// ReadOutline returns the fields of every upserted event, and refuses every event that DecodeEvent
// refuses.
func TestReadOutline_ReturnsTheFieldsOfTheEvent(t *testing.T) {
	for _, e := range exampleEvents(t) {
		b, err := checkpoint.EncodeEvent(e)
		require.NoError(t, err)
		requireOutline(t, b)
		_, isUpsert := e.(checkpoint.Upserted)
		_, ok := checkpoint.ReadOutline(b)
		require.Equal(t, isUpsert, ok)
		eachMutation(b, func(mutated []byte) { requireOutline(t, mutated) })
	}
}

// requireOutline requires that the outline, if there is one, has the fields of the event.
func requireOutline(t *testing.T, encoded []byte) {
	o, ok := checkpoint.ReadOutline(encoded)
	if !ok {
		return
	}
	e, err := checkpoint.DecodeEvent(encoded)
	require.NoError(t, err, "%x", encoded)
	c := e.(checkpoint.Upserted).Checkpoint
	want := checkpoint.Outline{MigrationID: c.MigrationID, TimestampMS: c.TimestampMS, Attempt: c.Attempt, VShardID: c.Payload.Shard(), Phase: c.Phase()}
	if p, ok := c.Payload.(checkpoint.AddLearner); ok {
		want.HasSource, want.SourceNode = true, p.SourceNode
	}
	want.TargetNode, want.SourceGroup, want.HasTarget = checkpoint.TargetOf(c.Payload)
	require.Equal(t, want, o)
}

// packageScope returns the declarations of package checkpoint. Other packages are not loaded, so
// what depends on them has no type.
func packageScope(t *testing.T) *types.Scope {
	set := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(set, name, nil, 0)
			require.NoError(t, err)
			files = append(files, file)
		}
	}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	checked, _ := config.Check("migrationlog/checkpoint", set, files, nil)
	return checked.Scope()
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.ErrUnsupported }

func typeName(t types.Type) string {
	if named, ok := t.(*types.Named); ok {
		return named.Obj().Name()
	}
	return ""
}

func hasMethod(t types.Type, name string) bool {
	methods := types.NewMethodSet(t)
	for m := range methods.Methods() {
		if m.Obj().Name() == name {
			return true
		}
	}
	return false
}

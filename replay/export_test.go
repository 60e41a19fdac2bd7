package replay

import "context"

// FoldIntact is the part of FoldAll that reads only an intact log.
func (r *Reader) FoldIntact(ctx context.Context) (*Fold, error) {
	return r.foldIntact(ctx, func(uint64) {})
}

package store

import (
	"context"
	"fmt"
)

// chain implements Chain.
type chain struct{ db *DB }

const linkColumns = "SELECT sequence, body, hash FROM chain"

func scanLink(row scanner) (Link, error) {
	var l Link
	err := row.Scan(&l.Sequence, &l.Body, &l.Hash)
	l.Body, l.Hash = given(l.Body), given(l.Hash)
	return l, err
}

func (c chain) Append(ctx context.Context, next func(sequence int64, previous []byte) (Link, error)) (Link, error) {
	return write(ctx, c.db, c.db.chain, "appending to the chain", func(ctx context.Context, s session) (Link, error) {
		head, err := readHead(ctx, s)
		if err != nil {
			return Link{}, err
		}
		link, err := next(head.Sequence, head.Hash)
		if err != nil {
			return Link{}, &callerError{err}
		}
		link = Link{Sequence: link.Sequence, Body: kept(link.Body), Hash: kept(link.Hash)}
		if link.Sequence != head.Sequence+1 {
			return Link{}, fmt.Errorf("sequence %d after %d", link.Sequence, head.Sequence)
		}
		return link, appendLink(ctx, s, link)
	})
}

// appendLink writes the link and moves the head from its predecessor to it.
func appendLink(ctx context.Context, s session, link Link) error {
	_, err := s.exec(ctx, "INSERT INTO chain (sequence, body, hash) VALUES ($1, $2, $3)", link.Sequence, link.Body, link.Hash)
	if err != nil && s.dialect.duplicate(err) {
		return errChainTaken
	}
	if err != nil {
		return err
	}
	n, err := s.exec(ctx, "UPDATE chain_head SET sequence = $1, hash = $2 WHERE one = 1 AND sequence = $3",
		link.Sequence, link.Hash, link.Sequence-1)
	if err == nil && n == 0 {
		err = errChainTaken
	}
	return err
}

// readHead returns the last link without its body.
func readHead(ctx context.Context, s session) (Link, error) {
	return one(ctx, s, func(row scanner) (Link, error) {
		var l Link
		err := row.Scan(&l.Sequence, &l.Hash)
		l.Hash = given(l.Hash)
		return l, err
	}, "SELECT sequence, hash FROM chain_head WHERE one = 1")
}

func (c chain) Head(ctx context.Context) (int64, []byte, error) {
	head, err := readHead(ctx, c.db.read())
	return head.Sequence, head.Hash, c.db.mapError(ctx, "reading the chain's head", err)
}

func (c chain) Read(ctx context.Context, after int64, limit int) ([]Link, error) {
	var w where
	w.add("sequence", ">", after)
	return c.links(ctx, w, "sequence", limit)
}

func (c chain) ReadBack(ctx context.Context, before int64, limit int) ([]Link, error) {
	var w where
	if before > 0 {
		w.add("sequence", "<", before)
	}
	return c.links(ctx, w, "sequence DESC", limit)
}

func (c chain) links(ctx context.Context, w where, order string, limit int) ([]Link, error) {
	query, args := w.list(linkColumns, order, Page{Limit: limit}.size())
	found, err := collect(ctx, c.db.read(), scanLink, query, args...)
	if err != nil {
		return nil, c.db.mapError(ctx, "reading the chain", err)
	}
	return found, nil
}

package tuf

import "context"

// Before makes a repository call a function ahead of each change to its folder.
func (r *Repository) Before(f func(name string) error) { r.folder.before = f }

// Folder is the repository's folder.
func (r *Repository) Folder() *Folder { return r.folder }

// OpenWith is Open with a function called ahead of each change to the folder.
func OpenWith(ctx context.Context, cfg Config, before func(string) error) (*Repository, error) {
	return open(ctx, cfg, before)
}

// Swap gives a repository other contents.
func (r *Repository) Swap(targets func() (map[string][]byte, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg.Targets = targets
}

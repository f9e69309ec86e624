package stream

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	pageSize = 500
	maxPage  = time.Minute // to read one
	maxBody  = 64 << 20    // of one
)

// An asker sends the request for one page.
type asker func(context.Context, url.Values) (*http.Response, error)

// List hands over everything in a collection, once. The query may select.
func List(ctx context.Context, client *http.Client, u *url.URL, query url.Values, accept string, do func(*Object) error) error {
	_, err := pages(ctx, query, func(ctx context.Context, query url.Values) (*http.Response, error) {
		page := *u
		page.RawQuery = query.Encode()
		return Get(ctx, client, &page, accept)
	}, do)
	return err
}

// pages reads everything, page by page, and returns its resourceVersion.
func pages(ctx context.Context, query url.Values, ask asker, do func(*Object) error) (version string, err error) {
	query = maps.Clone(query)
	query.Set("limit", strconv.Itoa(pageSize))
	for {
		p, err := onePage(ctx, ask, query)
		if err != nil {
			return "", err
		}
		if err := p.objects(do); err != nil {
			return "", err
		}
		if p.Continue == "" {
			return p.Version, nil
		}
		query.Set("continue", p.Continue)
		query.Del("resourceVersion") // the token has one
	}
}

func onePage(ctx context.Context, ask asker, query url.Values) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, maxPage)
	defer cancel()
	resp, err := ask(ctx, query)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxBody))
	if err != nil {
		return page{}, err
	}
	return readPage(body, isJSON(resp))
}

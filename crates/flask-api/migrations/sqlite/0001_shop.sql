-- Times are RFC 3339 in UTC with three decimals, so that they sort as text.

CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    price_cents INTEGER NOT NULL CHECK (price_cents BETWEEN 0 AND 100000000),
    -- The last line of defence against overselling; the first is a write transaction.
    stock       INTEGER NOT NULL CHECK (stock >= 0)
) STRICT;

CREATE TABLE orders (
    -- AUTOINCREMENT: an id is never used twice and grows with time, which paging relies on.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    status          TEXT    NOT NULL CHECK (status IN ('pending', 'paid', 'failed', 'cancelled')),
    failure         TEXT    CHECK (failure IN ('payment_declined', 'payment_unavailable')),
    total_cents     INTEGER NOT NULL CHECK (total_cents >= 0),
    idempotency_key TEXT    UNIQUE,
    created_at      TEXT    NOT NULL,
    updated_at      TEXT    NOT NULL,
    CHECK ((status = 'failed') = (failure IS NOT NULL))
) STRICT;

-- Pages of one status, and, because the total is in it, counts and revenue without touching the table.
CREATE INDEX orders_by_status ON orders (status, id, total_cents);

CREATE TABLE order_items (
    order_id         INTEGER NOT NULL REFERENCES orders (id),
    product_id       INTEGER NOT NULL REFERENCES products (id),
    quantity         INTEGER NOT NULL CHECK (quantity > 0),
    unit_price_cents INTEGER NOT NULL CHECK (unit_price_cents >= 0),
    PRIMARY KEY (order_id, product_id)
) STRICT, WITHOUT ROWID;

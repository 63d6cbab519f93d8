INSERT INTO products (id, name, price_cents, stock) VALUES
    ( 1, 'Flask, borosilicate, 500 ml',     1290, 100000),
    ( 2, 'Flask, insulated steel, 750 ml',  2790, 100000),
    ( 3, 'Flask, leather-bound, 180 ml',    3450, 100000),
    ( 4, 'Espresso cups, set of two',       1890, 100000),
    ( 5, 'Pour-over dripper',               2400, 100000),
    ( 6, 'Paper filters, pack of 100',       650, 100000),
    ( 7, 'Hand grinder, ceramic burrs',     5900, 100000),
    ( 8, 'Kettle, gooseneck, 900 ml',       6450, 100000),
    ( 9, 'Scale with timer, 0.1 g',         3995, 100000),
    (10, 'Coffee beans, house blend, 1 kg', 2150, 100000),
    (11, 'Tea sampler, twelve tins',        3200, 100000),
    (12, 'Cleaning brush, long handle',      480, 100000)
ON CONFLICT DO NOTHING;

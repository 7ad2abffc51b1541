import fc from "fast-check";
import { expect, test } from "vitest";
import { batches } from "../ts/batches.js";

const drawn = (...args: Parameters<typeof batches>) => Array.from(batches(...args), (batch) => [...batch]);

test("the order is the published one, the same on every engine", () => {
  expect(drawn(10, 4, { seed: 1 })).toMatchInlineSnapshot(`
    [
      [
        0,
        1,
        2,
        7,
      ],
      [
        5,
        8,
        6,
        9,
      ],
      [
        4,
        3,
      ],
    ]
  `);
});

test("an epoch has each sample once, in batches of the given size, except for the last", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300 }).chain((n) => fc.tuple(fc.constant(n), fc.integer({ min: 1, max: n }))),
      fc.nat(),
      fc.integer({ min: 1, max: 3 }),
      fc.boolean(),
      ([samples, size], seed, epochs, dropLast) => {
        const all = drawn(samples, size, { seed, epochs, dropLast });
        const perEpoch = dropLast ? Math.floor(samples / size) : Math.ceil(samples / size);
        expect(all.length).toBe(perEpoch * epochs);
        for (let epoch = 0; epoch < epochs; epoch++) {
          const batchesOfEpoch = all.slice(epoch * perEpoch, (epoch + 1) * perEpoch);
          const seen = batchesOfEpoch.flat();
          expect(new Set(seen).size).toBe(seen.length);
          expect(seen.length).toBe(dropLast ? perEpoch * size : samples);
          expect(seen.every((index) => index < samples)).toBe(true);
          expect(batchesOfEpoch.slice(0, -1).every(({ length }) => length === size)).toBe(true);
        }
      },
    ),
  );
});

test("the seed decides the order, and each epoch has a different one", () => {
  const [a, b, c] = [1, 1, 2].map((seed) => drawn(100, 100, { seed, epochs: 2 }));
  expect(a).toEqual(b);
  expect(a).not.toEqual(c);
  expect(a![0]).not.toEqual(a![1]);
});

test("a batch stays as it was drawn", () => {
  const [first, second] = [...batches(50, 50, { epochs: 2 })];
  expect([...first!]).not.toEqual([...second!]);
});

test("all orders are equally likely", () => {
  const counts = new Map<string, number>();
  for (const order of batches(4, 4, { seed: 5, epochs: 24_000 })) {
    counts.set(`${order}`, (counts.get(`${order}`) ?? 0) + 1);
  }
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  expect(counts.size).toBe(24);
  expect(chiSquare).toBeLessThan(49.7); // 23 degrees of freedom; the probability of a larger value is 0.001
});

test("a saved state continues in the same and in a new generator", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 30 }),
      fc.nat(29),
      fc.boolean(),
      fc.nat(40),
      fc.nat(9),
      (samples, rest, dropLast, drawn, ahead) => {
        const size = 1 + (rest % samples);
        const make = () => batches(samples, size, { seed: 3, epochs: 4, dropLast });
        const [whole, other] = [make(), make()];
        for (let i = 0; i < drawn; i++) if (whole.next().done) return;
        for (let i = 0; i < Math.min(ahead, 3 * Math.floor(samples / size)); i++) other.next();
        other.state = JSON.parse(JSON.stringify(whole.state));
        expect([...other].map(String)).toEqual([...whole].map(String));
      },
    ),
  );
});

test("the state of batches with other arguments is refused", () => {
  const order = batches(10, 3, { seed: 1 });
  order.next();
  const state = order.state;
  expect(state).toEqual({ samples: 10, size: 3, seed: 1, dropLast: false, epoch: 0, start: 3 });
  const wrong: [object, string][] = [
    [{ ...state, seed: 2 }, "batches: seed is 2 in the state, 1 here"],
    [{ ...state, samples: 11 }, "batches: samples is 11 in the state, 10 here"],
    [{ ...state, epoch: -1 }, "batches: state.epoch must be a whole number in [0, ∞), got -1"],
    [{ ...state, start: 4 }, "batches: state.start must be where a batch of 3 begins, got 4"],
    [{ ...state, start: 15 }, "batches: state.start must be where a batch of 3 begins, got 15"],
    [null as never, "batches: state must be a state of batches, got null"],
  ];
  for (const [given, message] of wrong) {
    expect(() => {
      order.state = given as typeof state;
    }).toThrow(message);
  }
  expect(order.state).toEqual(state);
  for (const _ of order) break;
  expect(() => {
    order.state = state;
  }).toThrow("batches: the generator has ended; call batches() again and assign the state to the new one");
});

test("a second loop is an error", () => {
  for (const isWhole of [true, false]) {
    const order = batches(4, 2);
    for (const _ of order) if (!isWhole) break;
    expect(() => [...order]).toThrow("batches: the generator has ended; call batches() again, or set epochs");
    expect(order.state.start).toBe(isWhole ? 0 : 2);
  }
});

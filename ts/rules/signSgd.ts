import { nonNegative } from "../option.js";
import { rule } from "../rule.js";

/**
 * Each parameter moves by the rate, against its gradient's sign: `p = p - lr * sign(g)`.
 *
 * Bernstein, Wang, Azizzadenesheli & Anandkumar, 2018, https://arxiv.org/abs/1802.04434
 */
export const signSgd = rule("signSgd", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
  },
  state: [],
});

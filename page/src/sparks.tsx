// Sparklines: small pictures of an audience's last runs. Their numbers are in the row, and in their labels.

import type { Point } from "./trend.ts";
import { place } from "./trend.ts";
import { counted, numeral } from "./words.ts";

const WIDTH = 96;
const HEIGHT = 24;
const EDGE = 2;

/** The members of the last runs, as a line that ends in a point. */
export function MembersSpark({ points }: { points: readonly Point[] }) {
  if (points.length < 2) return null;
  const at = place(points.map((point) => point.members)).map(([x, y]) => [EDGE + x * (WIDTH - 2 * EDGE), HEIGHT - EDGE - y * (HEIGHT - 2 * EDGE)] as const);
  const [x, y] = at.at(-1)!;
  const label = `Members over ${counted(points.length, "run")}: ${numeral(points[0]!.members)} to ${numeral(points.at(-1)!.members)}`;
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} role="img" aria-label={label} data-testid="spark-members">
      <polyline points={at.map((one) => one.map((n) => n.toFixed(1)).join(",")).join(" ")} class="members" />
      <circle cx={x} cy={y} r={EDGE} class="members" />
    </svg>
  );
}

/** Entered upwards and exited downwards, a pair of bars per run. */
export function ChangesSpark({ points }: { points: readonly Point[] }) {
  if (points.length < 2) return null;
  const most = Math.max(1, ...points.flatMap((point) => [point.entered, point.exited]));
  const step = WIDTH / points.length;
  const tall = (value: number) => (value ? Math.max(1, (value / most) * (HEIGHT / 2)) : 0);
  const sum = (of: "entered" | "exited") => numeral(points.reduce((all, point) => all + point[of], 0));
  return (
    <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} role="img" aria-label={`Over ${counted(points.length, "run")}: ${sum("entered")} entered, ${sum("exited")} exited`} data-testid="spark-changes">
      {points.map((point, n) => (
        <>
          <rect x={n * step + 1} width={Math.max(1, step - 2)} y={HEIGHT / 2 - tall(point.entered)} height={tall(point.entered)} class="entered" />
          <rect x={n * step + 1} width={Math.max(1, step - 2)} y={HEIGHT / 2} height={tall(point.exited)} class="exited" />
        </>
      ))}
    </svg>
  );
}

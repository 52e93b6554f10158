// How long turns of Veneer's event loop are while it works: nothing else is answered during one. By its own metric, which counts turns by length.
import { timeAugmentation } from './augmentation.ts';
import type { Benchmark, Row } from './benchmark.ts';
import { createClient } from './client.ts';
import type { Figures } from './comparison.ts';
import { NAMES, repositoriesOf, repositoryAt } from './environment.ts';
import { pushImage, pushRandomBlob } from './image.ts';
import type { Server } from './processes.ts';
import { measurePulls } from './pulls.ts';
import { createImage, pushImage as pushRandomImage } from './random-image.ts';
import { request } from './requests.ts';

const GOAL_MS = 5;
/** Such a part of the turns is no longer than the figure. */
const PART = 0.999;
/** Than the last bound of the metric. */
const LONGER_MS = 10_000;
const PULLED_BYTES = 256 * 2 ** 20;
const PULLERS = 8;
const PUSHED_BYTES = 100 * 2 ** 20;
const TAG = 'loop';

export const LOOP_DELAY: Benchmark = {
  rows: [
    describe('pulls', `${PULLERS} pulls of a warm blob of 256 MiB`),
    describe('push', 'a push of an image of 100 MiB'),
    describe('augmentation', 'an augmentation of three platforms'),
  ],
  async prepare(environment) {
    const upstream = await environment.upstream();
    const proxies = await environment.proxies();
    const { veneer } = proxies;
    const client = environment.stack.adopt(createClient(), ({ close }) => close());
    const blob = `blobs/${await pushRandomBlob(repositoryAt(upstream), PULLED_BYTES)}`;
    const url = `${repositoriesOf(proxies).veneer}/${blob}`;
    await measurePulls(veneer, url);
    await pushImage(repositoryAt(upstream), TAG);
    return async pair => {
      const image = createImage(PUSHED_BYTES);
      const change = { registry: veneer.address, image: `${NAMES.veneer}:${TAG}`, value: `loop-${pair}` };
      return [
        await measureTurns(veneer, () => measurePulls(veneer, url, PULLERS)),
        await measureTurns(veneer, () =>
          pushRandomImage(client, `http://${veneer.address}/v2/local/bench/loop`, image),
        ),
        await measureTurns(veneer, () => timeAugmentation(change)),
      ];
    };
  },
};

function describe(name: string, work: string): Row {
  return {
    name: `loop-${name}`,
    what: `turns of the event loop during ${work}, 999 of 1000`,
    unit: 'ms',
    better: 'lower',
    peer: 'the goal',
  };
}

async function measureTurns(server: Server, work: () => Promise<unknown>): Promise<Figures> {
  const before = await readTurns(server);
  await work();
  const turns = (await readTurns(server)).map(({ boundMs, count }, at) => ({
    boundMs,
    count: count - (before[at]?.count ?? 0),
  }));
  const all = turns.at(-1)?.count ?? 0;
  const longest = turns.find(({ count }) => count >= all * PART)?.boundMs ?? LONGER_MS;
  return { veneer: longest, peer: GOAL_MS };
}

/** How many turns were at most so long, since the start of the process: in the order of the bounds. */
async function readTurns({ address }: Server) {
  const text = await (await request(`http://${address}/metrics`)).text();
  const buckets = [...text.matchAll(/^veneer_event_loop_delay_seconds_bucket\{le="([^"]+)"\} (\d+)/gm)];
  if (buckets.length === 0) throw new Error('the metrics say nothing of the event loop');
  return buckets.map(([, bound, count]) => ({
    boundMs: bound === '+Inf' ? LONGER_MS : Number(bound) * 1000,
    count: Number(count),
  }));
}

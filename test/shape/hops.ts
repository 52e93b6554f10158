// How many files of src/ a pull runs through, and how often it reads a record: on an app in process, by what V8 says was called meanwhile.
import { Session } from 'node:inspector/promises';
import { relative } from 'node:path';
import { StatementSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { startApp, type TestApp } from '../support/app.ts';

export interface Hops {
  readonly pull: string;
  /** From the root of the repository; those with a function that was called, in this thread. */
  readonly files: readonly string[];
  /** Statements of SQLite that read. */
  readonly recordReads: number;
}

type Counted = Omit<Hops, 'pull'>;

const NONE: Counted = { files: [], recordReads: 0 };
const WARM_PULLS = 5;
const MANIFEST = '/v2/lab/library/app/manifests/1';
const RULES = [{ name: 'audit', match: { image: '**' }, env: { RULED: 'yes' } }];

/** Of manifests by tag, with a rule that changes the image and without one; cold is the first pull of a new app. */
export async function countHops(): Promise<readonly Hops[]> {
  const app = await startApp();
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
    app.putImage();
    const upstreams = { lab: { url: app.registry.url } };
    await app.configure({ upstreams, rules: RULES });
    const ruled = await countPulls(app, session, 'through a rule');
    await app.configure({ upstreams });
    await app.restart('of-its-own');
    return [...ruled, ...(await countPulls(app, session, 'without a rule'))];
  } finally {
    session.disconnect();
    await app.close();
  }
}

async function countPulls(app: TestApp, session: Session, how: string): Promise<readonly Hops[]> {
  const [cold, , ...warm] = await countRepeated(app, session);
  const [first = NONE, ...others] = warm;
  // What a timer does at the time of a pull is not the pull's.
  const files = first.files.filter(path => others.every(other => other.files.includes(path)));
  const recordReads = Math.min(...warm.map(each => each.recordReads));
  return [
    { ...(cold ?? NONE), pull: `cold, ${how}` },
    { pull: `warm, ${how}`, files, recordReads },
  ];
}

/** One pull after the other: the first is cold, and the second may find what that left to do. */
async function countRepeated(app: TestApp, session: Session): Promise<readonly Counted[]> {
  const counted: Counted[] = [];
  while (counted.length < 2 + WARM_PULLS) counted.push(await countPull(app, session));
  return counted;
}

async function countPull(app: TestApp, session: Session): Promise<Counted> {
  const reads = countReads();
  await session.post('Profiler.takePreciseCoverage');
  const response = await app.request(MANIFEST);
  await response.bytes();
  const { result } = await session.post('Profiler.takePreciseCoverage');
  if (response.status !== 200) throw new Error(`${MANIFEST}: ${response.status}`);
  const called = result.filter(({ functions: [, ...functions] }) =>
    // The first one is the module itself, which is run when it is loaded.
    functions.some(({ ranges }) => ranges.some(({ count }) => count > 0)),
  );
  const paths = called.flatMap(({ url }) => (url.startsWith('file:') ? [relative('.', fileURLToPath(url))] : []));
  return { files: paths.filter(path => path.startsWith('src/')).sort(), recordReads: reads.end() };
}

/** Counts from here to its end. */
function countReads(): { readonly end: () => number } {
  const { get, all, iterate } = StatementSync.prototype;
  let count = 0;
  const counted = <T extends (...input: never[]) => unknown>(read: T) =>
    new Proxy(read, {
      apply(target, statement, input) {
        count += 1;
        return Reflect.apply(target, statement, input);
      },
    });
  Object.assign(StatementSync.prototype, { get: counted(get), all: counted(all), iterate: counted(iterate) });
  return {
    end() {
      Object.assign(StatementSync.prototype, { get, all, iterate });
      return count;
    },
  };
}

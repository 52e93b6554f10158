// `veneer doctor`: checks the configuration, this machine, the upstreams, the builders and the container runtimes, and prints a remedy for
// each problem. Changes nothing.
import { Command } from 'commander';
import { type ConfigSources, loadConfig } from '../../config/config.ts';
import { ConfigError, type ConfigFault } from '../../config/faults.ts';
import { describeMirror, findOwnUrl } from '../../config/own-address.ts';
import type { Config } from '../../config/schema.ts';
import { explain, plainText, print } from '../output.ts';
import { checkBuild } from './build-check.ts';
import { checkData, type ReadSpace } from './data-checks.ts';
import { type CheckedService, type Finding, fault, formatFinding, note, ok } from './findings.ts';
import {
  checkCertificates,
  checkClock,
  checkDatabase,
  checkPort,
  checkProxies,
  checkPublicUrl,
  findService,
  reachUpstream,
} from './network-checks.ts';
import { checkRuntimes, type RuntimePlaces } from './runtime-checks.ts';

interface ProbedUpstream {
  readonly name: string;
  readonly areCredentialsAccepted: boolean | undefined;
  readonly fault:
    | { readonly code: string; readonly message: string; readonly retryAfterSeconds: number | undefined }
    | undefined;
}

interface ProbedBuilder {
  readonly name: string;
  readonly kind: string;
  readonly fault?: string | undefined;
  readonly lacksRun?: string | undefined;
  readonly notes: readonly string[];
}

export interface DoctorDeps {
  /** Called when the command runs, as are the functions below. */
  readonly findConfigSources: () => ConfigSources;
  readonly findStartFaults: (config: Config) => Promise<readonly ConfigFault[]>;
  /** Contacts the upstreams as pulls would. */
  readonly probeUpstreams: (config: Config) => Promise<readonly ProbedUpstream[]>;
  readonly probeBuilders: (config: Config) => Promise<readonly ProbedBuilder[]>;
  readonly runtimePlaces?: RuntimePlaces;
  readonly readSpace?: ReadSpace;
  readonly now?: () => Date;
}

/** The exit status if there are faults. */
const EXIT_FAULTS = 2;
const PLACES: RuntimePlaces = { root: '/', dockerSocket: '/var/run/docker.sock' };

export function createDoctorCommand(deps: DoctorDeps): Command {
  return new Command('doctor')
    .description('finds problems, and prints the remedy of each; changes nothing')
    .option('--all', 'also lists checks that passed')
    .option('--json', 'prints all findings as JSON')
    .option('--builds', 'also has the running service build a RUN that does nothing, which leaves a tiny image')
    .action(async ({ all, json, builds = false }: Options, self: Command) => {
      const findings = await examine(deps, builds);
      const faults = findings.filter(({ level }) => level === 'fault').length;
      if (json) print(self, JSON.stringify({ faults, findings }, undefined, 2));
      else
        for (const line of findings.filter(({ level }) => all || level !== 'ok').flatMap(formatFinding))
          print(self, plainText(line));
      if (faults > 0) self.error(`${faults} ${faults === 1 ? 'fault' : 'faults'}`, { exitCode: EXIT_FAULTS });
      explain(self, 'no faults');
    });
}

interface Options {
  readonly all?: boolean;
  readonly json?: boolean;
  readonly builds?: boolean;
}

async function examine(deps: DoctorDeps, triesBuild: boolean): Promise<readonly Finding[]> {
  const sources = deps.findConfigSources();
  const { now = () => new Date(), runtimePlaces = PLACES, readSpace } = deps;
  let config: Config;
  try {
    config = loadConfig(sources);
  } catch (error) {
    if (error instanceof ConfigError) return error.details.map(toFinding);
    throw error;
  }
  const own = findOwnUrl(config);
  const checked: CheckedService = { config, isRunning: (await findService(own)) === 'veneer', env: sources.env, now };
  const [start, data, database, port, publicUrl, upstreams, builders, runtimes] = await Promise.all([
    deps.findStartFaults(config),
    checkData(checked, { readSpace }),
    checkDatabase(checked),
    checkPort(checked),
    checkPublicUrl(checked),
    checkUpstreams(checked, deps),
    deps.probeBuilders(config).then(found => checkBuilders(config, found)),
    checkRuntimes(describeMirror(config), runtimePlaces),
  ]);
  // On its own: it loads what the others look at.
  const build = triesBuild ? await checkBuild(checked, own) : [];
  const valid = start.length > 0 ? start.map(toFinding) : [ok('configuration', 'it is valid')];
  return [
    ...valid,
    ...data,
    ...database,
    ...port,
    ...publicUrl,
    ...checkProxies(checked),
    ...checkCertificates(checked),
    ...upstreams,
    ...builders,
    ...build,
    ...runtimes,
  ];
}

function toFinding(detail: ConfigFault): Finding {
  const [message = ''] = new ConfigError([detail]).faults;
  return fault('configuration', message, 'correct it, and try it with `veneer config check`');
}

async function checkUpstreams(checked: CheckedService, { probeUpstreams }: DoctorDeps): Promise<readonly Finding[]> {
  const probed = await probeUpstreams(checked.config);
  const reached = await Promise.all(probed.map(({ name }) => reachUpstream(name, checked)));
  const findings = probed.flatMap((each, at) => {
    const { findings = [] } = reached[at] ?? {};
    // One reason is enough for an upstream that cannot be reached.
    return findings.some(({ level }) => level === 'fault') ? findings : (checkPulls(each) ?? findings);
  });
  return [...findings, ...checkClock(reached.flatMap(({ aheadMs }) => (aheadMs === undefined ? [] : [aheadMs])))];
}

/** Error codes that show a working upstream: the requested manifest need not exist. */
const ANSWERS: readonly string[] = [
  'MANIFEST_UNKNOWN',
  'NAME_UNKNOWN',
  'NAME_INVALID',
  'UNAUTHORIZED',
  'DENIED',
  'UNSUPPORTED',
];

function checkPulls({ name, areCredentialsAccepted, fault: found }: ProbedUpstream): readonly Finding[] | undefined {
  const about = `upstream ${name}`;
  if (areCredentialsAccepted === false) {
    const remedy = `correct upstreams[${JSON.stringify(name)}].credentials, or what docker's config.json has for it (docker login)`;
    return [fault(about, 'it does not accept the credentials that are configured for it', remedy)];
  }
  if (!found || ANSWERS.includes(found.code)) return undefined;
  if (found.code === 'TOOMANYREQUESTS') {
    const wait = found.retryAfterSeconds === undefined ? '' : `, for ${found.retryAfterSeconds} s`;
    const remedy = 'give it credentials of an account with a higher limit, or wait: what is cached is served meanwhile';
    return [fault(about, `it has limited our requests${wait}`, remedy)];
  }
  return [
    fault(about, found.message, 'pulls get the same answer: see the log of Veneer and the state of the upstream'),
  ];
}

function checkBuilders({ builds }: Config, found: readonly ProbedBuilder[]): readonly Finding[] {
  const isChosen = builds.backends.some(({ type }) => type !== 'auto' && type !== 'embedded');
  const named = found.flatMap(each => checkBuilder(each));
  if (found.some(({ fault, lacksRun }) => fault === undefined && lacksRun === undefined)) return named;
  const reason = found.find(({ lacksRun }) => lacksRun !== undefined)?.lacksRun;
  const message = `no builder can do a RUN${reason === undefined ? '' : ` (${reason})`}: Containerfiles with one are refused`;
  const remedy = 'install BuildKit, docker with buildx, or buildah, and see `veneer doctor` again';
  return [...named, isChosen ? fault('builders', message, remedy) : note('builders', message, remedy)];
}

function checkBuilder({ name, kind, fault: reason, notes }: ProbedBuilder): readonly Finding[] {
  const about = `builder ${name}`;
  if (reason !== undefined) {
    return [fault(about, `it cannot build: ${reason}`, `start ${kind}, or correct its entry in builds.backends`)];
  }
  return [ok(about, `${kind} answers`), ...notes.map(each => note(about, each))];
}

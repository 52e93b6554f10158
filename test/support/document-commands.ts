// The commands that documents show: every block of README.md, CONTRIBUTING.md and docs/ for a shell, and how each is tried.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

export interface Block {
  /** Its page and heading, and which one it is below that, from the second on: `README.md: Run it`, `docs/rules.md: Explain 2`. */
  readonly name: string;
  readonly page: string;
  /** What is typed. */
  readonly code: string;
  /** What is shown for it, in a block of both (`console`) or one of JSON behind it. */
  readonly output: string;
}

export interface Ran {
  /** Typed before it, and not shown: what the reader has by then. */
  readonly before?: string;
  /** Lines that are left out, by their beginnings, and why. */
  readonly without?: Readonly<Record<string, string>>;
  /** What it has to print. */
  readonly prints?: readonly string[];
  /** It is shown with the error that it ends with. */
  readonly fails?: boolean;
  /** How the output shown is compared: line by line; by the first words of its lines; as JSON with the same keys. */
  readonly compare?: 'lines' | 'words' | 'keys';
  /** Keys of the JSON that are shown and not there, and why. */
  readonly differs?: Readonly<Record<string, string>>;
}

/** Run, left to another test that runs it, or not run for a reason. */
type Trial = Ran | { readonly test: string } | { readonly not: string };

export function isRun(trial: Trial | undefined): trial is Ran {
  return trial !== undefined && !('test' in trial) && !('not' in trial);
}

/** It installs packages, and continues. */
const START = { test: 'test/clients/tour.test.ts' } as const;
const RULES_CHANGED = 'until curl -s http://localhost:8080/v1/rules | grep -q company; do sleep 0.1; done';
const CLIENTS_OF_WAVE = { test: 'test/app/client-flows.test.ts' } as const;
const PULL_ALPINE = 'docker pull -q localhost:8080/library/alpine:3';
const LAYER = "mkdir -p layer/opt/hello && echo 'hello from a layer' > layer/opt/hello/greeting.txt";
const CONTAINERFILE = "printf 'FROM alpine:3\\nCOPY Containerfile /\\nRUN uname -m > /machine\\n' > Containerfile";

export const TRIALS: Readonly<Record<string, Trial>> = {
  'README.md: Veneer': START,
  'README.md: Veneer 2': {},
  'README.md: The first push': {},
  'README.md: The first build': { prints: ['hello from a build'] },
  'README.md: Configuration by example': { test: 'test/docs/examples.test.ts' },
  'README.md: Commands': {},
  'README.md: As a package': { test: 'test/clients/package.test.ts' },
  'README.md: In a container': { test: 'test/clients/image.test.ts' },

  'CONTRIBUTING.md: Tests': { not: 'they run the tests themselves' },

  'docs/access.md: Users': { not: 'it asks for a password at a terminal' },
  'docs/access.md: Tokens for CI': { prints: ['vnr_'] },
  'docs/access.md: Tokens for CI 2': {
    before: "veneer token create --push 'local/**' --name ci > token.txt",
    prints: ['Login Succeeded'],
  },
  'docs/access.md: Clients of Wave': CLIENTS_OF_WAVE,
  'docs/access.md: Credentials of your own': { before: 'echo secret > password.txt', prints: ['robot'] },
  'docs/access.md: Credentials passed on': { test: 'test/clients/pass-credentials.test.ts' },

  'docs/api.md: Submit: `POST /v1alpha2/container`': { compare: 'keys' },
  'docs/api.md: Inspect: `POST /v1alpha1/inspect?platform=`': {
    compare: 'keys',
    differs: { '.container.config.variant': 'an image that BuildKit made has none' },
  },
  'docs/api.md: Registry': { compare: 'keys' },
  'docs/api.md: Provenance': { test: 'test/clients/rules-provenance.test.ts' },
  'docs/api.md: Rules: `GET /v1/rules/explain?image=&platform=&caller=`': { compare: 'keys' },
  'docs/api.md: Hosted repositories': { before: PULL_ALPINE },

  'docs/benchmarks.md: Benchmarks': { not: 'it takes half an hour, and most of a machine: test/bench' },

  'docs/builds.md: Kubernetes': { test: 'test/clients/build-kubernetes.test.ts' },
  'docs/builds.md: Ask for a build': { compare: 'keys' },
  'docs/builds.md: Ask for a build 2': { before: CONTAINERFILE, prints: ['local/tools/hello:1'] },

  'docs/cli.md: Commands for a running service': { before: `${CONTAINERFILE} && ${LAYER}`, prints: ['GREETING=hello'] },
  'docs/cli.md: `veneer rules`': { compare: 'lines' },
  'docs/cli.md: `veneer status`': { compare: 'words' },
  'docs/cli.md: `veneer doctor`': { test: 'test/cli/doctor.test.ts' },
  'docs/cli.md: Help, completion and the manual page': { test: 'test/clients/shells.test.ts' },

  'docs/configuration.md: Configuration': {},

  'docs/faults.md: Faults, and the tests that cause them': { not: 'they run the tests themselves' },

  'docs/garbage-collection.md: By hand': { compare: 'words' },
  'docs/garbage-collection.md: By hand 2': { before: 'echo some-token > token' },

  'docs/kubernetes.md: With Helm': { test: 'test/clients/charts.test.ts' },
  'docs/kubernetes.md: Several replicas': {
    not: 'it needs a cluster: test/clients/charts.test.ts renders the same values',
  },

  'docs/migrate.md: From one platform to several': { prints: ['linux/amd64', 'linux/arm64'] },
  'docs/migrate.md: From one platform to several 2': { before: CONTAINERFILE, prints: ['amd64', 'arm64'] },
  "docs/migrate.md: From Kyverno's mutations to rules": {},

  'docs/mirror.md: Set it up': {},
  'docs/mirror.md: Check it': {
    prints: ['200 OK', 'oci-namespace: docker.io'],
    without: {
      'docker info': 'with engines that have the file: test/clients/mirror-docker.test.ts',
      'ctr images': 'the same: test/clients/mirror-containerd.test.ts',
      podman: 'the same: test/clients/mirror-podman.test.ts',
    },
  },

  'docs/observe.md: Traces': { test: 'test/clients/package.test.ts' },

  'docs/operate.md: Before others may reach it': {
    without: { 'veneer doctor': 'what it finds is of the machine: test/cli/doctor.test.ts' },
  },
  'docs/operate.md: As a service of systemd': { test: 'test/clients/deploy.test.ts' },
  'docs/operate.md: As a service of systemd 2': { not: 'it needs a user of the system' },
  'docs/operate.md: In a container': { test: 'test/clients/image.test.ts' },
  'docs/operate.md: Backup': {},

  'docs/operations.md: On one machine, to try it': { test: 'test/clients/compose.test.ts' },
  'docs/operations.md: Backup': { test: 'test/clients/fleet.test.ts' },
  'docs/operations.md: Restore': { test: 'test/clients/fleet.test.ts' },

  'docs/quick-start-augment.md: Quick start: augment images by the API': { prints: ['hello from a layer'] },
  'docs/quick-start-augment.md: Quick start: augment images by the API 2': { prints: ['hello from a layer'] },
  'docs/quick-start-augment.md: Wave CLI': CLIENTS_OF_WAVE,
  'docs/quick-start-augment.md: What goes wrong most often': { compare: 'lines' },

  'docs/quick-start-mirror.md: Docker': { prints: ['docker.io', 'no faults'] },
  'docs/quick-start-mirror.md: containerd 1.6 and 2.x': { prints: ['done'] },
  'docs/quick-start-mirror.md: Podman and CRI-O': { test: 'test/clients/mirror-podman.test.ts' },
  'docs/quick-start-mirror.md: Change what is pulled': {},
  'docs/quick-start-mirror.md: Change what is pulled 2': {
    before: RULES_CHANGED,
    prints: ['Welcome to Example Inc.', 'company'],
  },
  'docs/quick-start-mirror.md: If nothing comes through Veneer': { test: 'test/cli/doctor.test.ts' },

  'docs/quick-start-pull.md: Quick start: pull through Veneer': START,
  'docs/quick-start-pull.md: Quick start: pull through Veneer 2': { prints: ['it works'] },
  'docs/quick-start-pull.md: Quick start: pull through Veneer 3': { prints: ['docker.io', 'quay.io', 'no faults'] },
  'docs/quick-start-pull.md: Your own registry': { fails: true, compare: 'lines' },

  'docs/rules.md: Pinned digests': { prints: ['sha256:'] },
  'docs/rules.md: Provenance and signatures': { prints: ['"corporate-ca"', 'sha256:'] },
  'docs/rules.md: Provenance and signatures 2': { test: 'test/clients/rules-provenance.test.ts' },
  'docs/rules.md: Explain': { prints: ['corporate-ca'] },

  'docs/cli.md: `veneer migrate`': { test: 'test/clients/postgres-migrate.test.ts' },
  'docs/storage.md: From a file to a database, and back': { test: 'test/clients/postgres-migrate.test.ts' },
  'docs/storage.md: Backup': {
    without: { 'veneer --data-dir /var/lib/veneer-2': 'test/cli/backup.test.ts starts what was restored' },
  },
  'docs/storage.md: Which command when': { test: 'test/cli/repair.test.ts' },

  'docs/troubleshooting.md: Troubleshooting': {
    without: { 'veneer doctor': 'what it finds is of the machine: test/cli/doctor.test.ts' },
  },
};

/** All blocks of the pages, in their order. */
export function listBlocks(): readonly Block[] {
  const pages = readdirSync(join(ROOT, 'docs')).filter(name => name.endsWith('.md'));
  return ['README.md', 'CONTRIBUTING.md', ...pages.map(name => `docs/${name}`)].flatMap(readBlocks);
}

function readBlocks(page: string): readonly Block[] {
  const text = readFileSync(join(ROOT, page), 'utf8');
  const parts = [...text.matchAll(/^#+ (.+)$|^ *```(sh|bash|shell|console|json)\n([\s\S]*?)^ *```$/gm)];
  const blocks: Block[] = [];
  let heading = '';
  let count = 0;
  for (const [at, [, title, language, body = '']] of parts.entries()) {
    if (title !== undefined) [heading, count] = [title, 0];
    else if (language !== 'json') {
      count += 1;
      const [, , next, answer = ''] = parts[at + 1] ?? [];
      const name = `${page}: ${heading}${count > 1 ? ` ${count}` : ''}`;
      const lines = dedent(body);
      const [code, output] =
        language === 'console'
          ? [
              lines.flatMap(line => (line.startsWith('$ ') ? [line.slice(2)] : [])).join('\n'),
              lines.filter(line => !line.startsWith('$ ')).join('\n'),
            ]
          : [lines.join('\n'), next === 'json' ? answer : ''];
      blocks.push({ name, page, code, output });
    }
  }
  return blocks;
}

/** Of a block within a list. */
function dedent(text: string): readonly string[] {
  const indent = /^ */.exec(text)?.[0] ?? '';
  return text.split('\n').map(line => (line.startsWith(indent) ? line.slice(indent.length) : line));
}

// `veneer token`: gives out access tokens, lists and revokes them, beside the running service.
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { type AccessToken, type AccessTokens, createAccessTokens } from '../access/access-token.ts';
import { findPatternFault, type Permission } from '../access/right.ts';
import { duration } from '../config/values.ts';
import { createReserve, createReservedStore } from '../state/reserve.ts';
import { createSqliteStore } from '../state/sqlite.ts';
import { explain, formatColumns, print } from './output.ts';

interface TokenCommandDeps {
  /** The path of the records that the service keeps; asked when a command runs. */
  readonly findRecords: () => string;
  readonly now?: () => Date;
}

interface CreateOptions {
  readonly pull?: readonly string[];
  readonly push?: readonly string[];
  readonly delete?: readonly string[];
  readonly build?: readonly string[];
  readonly admin?: boolean;
  /** In milliseconds. */
  readonly ttl?: number;
  readonly name: string;
}

const DEFAULT_TTL = '30d';

/** What a script wants goes to standard output, one thing alone; explanations go to standard error. */
export function createTokenCommand(deps: TokenCommandDeps): Command {
  const command = new Command('token').description('access tokens: passwords with rights of their own, and an end');
  addCreate(command, deps);
  addList(command, deps);
  addRevoke(command, deps);
  return command;
}

function addCreate(command: Command, deps: TokenCommandDeps): void {
  command
    .command('create')
    .description('prints a new token: it is shown this once, and only its SHA-256 is kept')
    .option('--pull <pattern...>', 'what it may pull', collectPatterns)
    .option('--push <pattern...>', 'what it may push, and pull: clients look before they push', collectPatterns)
    .option('--delete <pattern...>', 'what it may delete, and pull', collectPatterns)
    .option('--build <pattern...>', 'where it may have images built, and pull', collectPatterns)
    .option('--admin', 'that it may look after Veneer: collect, and see cache, rules and what others get')
    .option('--ttl <duration>', `how long it lives, such as 12h (default: ${DEFAULT_TTL})`, parseTtl)
    .option('--name <name>', 'what it is for', parseName, 'unnamed')
    .action(async (options: CreateOptions, self: Command) => {
      const permissions = permissionsOf(options);
      if (permissions.length === 0)
        self.error('error: a token needs a right: --pull, --push or --delete, or --build or --admin');
      const path = resolve(deps.findRecords());
      const ttlMs = options.ttl ?? parseTtl(DEFAULT_TTL);
      const { token, secret } = await withTokens(path, deps, tokens =>
        tokens.issue({ name: options.name, permissions, ttlMs }),
      );
      explain(self, `access token ${token.id} (${token.name}) lives until ${token.expiresAt}; kept in ${path}`);
      explain(
        self,
        'where access is configured it is a password for any user name: docker login --username token --password-stdin <host>',
      );
      print(self, secret);
    });
}

function addList(command: Command, deps: TokenCommandDeps): void {
  command
    .command('list')
    .description('lists the tokens that have not expired')
    .action(async (_options: object, self: Command) => {
      const tokens = await withTokens(existingPath(self, deps), deps, ({ list }) => list());
      for (const line of formatTokens(tokens)) print(self, line);
    });
}

function addRevoke(command: Command, deps: TokenCommandDeps): void {
  command
    .command('revoke')
    .description('ends a token; bearer tokens that it got live on for their few minutes')
    .argument('<id>', 'the id that create and list show')
    .action(async (id: string, _options: object, self: Command) => {
      const isRevoked = await withTokens(existingPath(self, deps), deps, ({ revoke }) => revoke(id));
      if (!isRevoked) self.error('error: there is no access token with this id');
      explain(self, `access token ${id} is revoked`);
    });
}

/** Only `create` makes records: elsewhere it is the wrong directory that has none. */
function existingPath(self: Command, { findRecords }: TokenCommandDeps): string {
  const path = resolve(findRecords());
  if (!existsSync(path)) self.error(`error: there is no ${path}: name the data directory of the service`);
  return path;
}

async function withTokens<T>(
  path: string,
  { now = () => new Date() }: TokenCommandDeps,
  work: (tokens: AccessTokens) => Promise<T>,
): Promise<T> {
  const reserve = createReserve(dirname(path));
  const records = createReservedStore(createSqliteStore({ path, now }), reserve);
  try {
    return await work(createAccessTokens({ records, now }));
  } finally {
    await records.close();
    await reserve.close();
  }
}

function permissionsOf({
  pull = [],
  push = [],
  delete: remove = [],
  build = [],
  admin,
}: CreateOptions): readonly Permission[] {
  const permissions: readonly Permission[] = [
    { repositories: pull, allow: ['pull'] },
    { repositories: push, allow: ['pull', 'push'] },
    { repositories: remove, allow: ['pull', 'delete'] },
    { repositories: build, allow: ['pull', 'build'] },
  ];
  const ofRepositories = permissions.filter(({ repositories }) => repositories.length > 0);
  return admin ? [...ofRepositories, { repositories: [], allow: ['admin'] }] : ofRepositories;
}

const MIN_TTL_MS = 60_000;
const NAME = /^[\w.@ -]{1,64}$/;

/** For an option that may be there several times. */
function collectPatterns(pattern: string, before: readonly string[] = []): readonly string[] {
  const fault = findPatternFault(pattern);
  if (fault !== undefined) throw new InvalidArgumentError(fault);
  return [...before, pattern];
}

/** In milliseconds, from a minute to ten years. */
function parseTtl(text: string): number {
  const { data, error } = duration({ minMs: MIN_TTL_MS }).safeParse(text);
  if (data !== undefined) return data;
  throw new InvalidArgumentError(error?.issues[0]?.message ?? 'expected a duration');
}

function parseName(text: string): string {
  if (NAME.test(text)) return text;
  throw new InvalidArgumentError('expected at most 64 letters, digits, spaces and any of . _ @ -');
}

const HEADINGS = ['ID', 'EXPIRES', 'NAME', 'RIGHTS'] as const;

/** A line of headings, and one for each token, in columns. */
function formatTokens(tokens: readonly AccessToken[]): readonly string[] {
  const rows = tokens.map(({ id, expiresAt, name, permissions }) => [
    id,
    expiresAt,
    name,
    permissions.map(formatPermission).join('; '),
  ]);
  return formatColumns(HEADINGS, rows);
}

function formatPermission({ repositories, allow }: Permission): string {
  return [allow.join(','), ...repositories].join(' ');
}

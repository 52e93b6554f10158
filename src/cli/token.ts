// `veneer token`: creates, lists and revokes access tokens, with or without a running service.
import { Command, InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { type AccessToken, type AccessTokens, createAccessTokens } from '../access/access-token.ts';
import { findPatternFault, type Permission } from '../access/right.ts';
import { duration } from '../config/values.ts';
import type { RecordStore } from '../state/store.ts';
import { explain, formatColumns, plainText, print, printJson } from './output.ts';
import { parseAnswer } from './service/builds.ts';
import { type Hints, refusalOf, type Service, sendRequest } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

interface TokenCommandDeps extends ServiceCommandDeps {
  /** The records of the service; called when a command runs. */
  readonly findRecords: () => TokenRecords;
  readonly now?: () => Date;
}

interface TokenRecords {
  /** Where they are, for the person who runs the command. */
  readonly name: string;
  hasRecords(): boolean;
  /** Creates them if absent. The caller closes the store. */
  open(): Promise<RecordStore>;
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
  readonly json?: boolean;
}

const DEFAULT_TTL = '30d';

/** Output for scripts goes to standard output, explanations to standard error. */
export function createTokenCommand(deps: TokenCommandDeps): Command {
  const command = new Command('token').description('manages access tokens: passwords with their own rights and expiry');
  addCreate(command, deps);
  addList(command, deps);
  addRevoke(command, deps);
  return command;
}

function addCreate(command: Command, deps: TokenCommandDeps): void {
  command
    .command('create')
    .description('prints a new token, shown only this once: only its SHA-256 is stored')
    .option('--pull <pattern...>', 'repositories it may pull', collectPatterns)
    .option('--push <pattern...>', 'repositories it may push and pull: clients check before they push', collectPatterns)
    .option('--delete <pattern...>', 'repositories it may delete from, and pull', collectPatterns)
    .option('--build <pattern...>', 'repositories it may build into, and pull', collectPatterns)
    .option('--admin', 'allows administration: garbage collection, the cache, rules and data of other callers')
    .option('--ttl <duration>', `its lifetime, such as 12h (default: ${DEFAULT_TTL})`, parseTtl)
    .option('--name <name>', 'a name that describes its purpose', parseName, 'unnamed')
    .option('--json', 'prints the token with its id and expiry as JSON')
    .action(async (options: CreateOptions, self: Command) => {
      const permissions = permissionsOf(options);
      if (permissions.length === 0)
        self.error('error: a token needs a right: --pull, --push or --delete, or --build or --admin');
      const found = deps.findRecords();
      const ttlMs = options.ttl ?? parseTtl(DEFAULT_TTL);
      const { token, secret } = await withTokens(found, deps, tokens =>
        tokens.issue({ name: options.name, permissions, ttlMs }),
      );
      if (options.json) {
        const { id, name, expiresAt } = token;
        printJson(self, { id, name, expiresAt, permissions, token: secret });
        return;
      }
      explain(self, `access token ${token.id} (${token.name}) expires at ${token.expiresAt}; stored in ${found.name}`);
      explain(
        self,
        'if access is configured, use it as the password of any user name: docker login --username token --password-stdin <host>',
      );
      print(self, secret);
    });
}

interface ListFlags {
  readonly images?: boolean;
  readonly workflow?: string;
  readonly json?: boolean;
}

const IMAGES = 'of names of images, which a running service gave out, in place of access tokens';

function addList(command: Command, deps: TokenCommandDeps): void {
  const list = command
    .command('ls')
    .alias('list')
    .description('lists the access tokens that have not expired, or with --images the tokens in names of images')
    .option('--images', `those ${IMAGES}`)
    .option('--workflow <id>', 'only those of a workflow; implies --images')
    .option('--json', 'prints them as JSON');
  addServerOption(list).action(async ({ images, workflow, json }: ListFlags, self: Command) => {
    const printAll = <T>(tokens: readonly T[], format: (tokens: readonly T[]) => readonly string[]) => {
      for (const line of json ? [JSON.stringify(tokens, undefined, 2)] : format(tokens)) print(self, line);
    };
    if (!images && workflow === undefined) {
      printAll(await withTokens(existing(self, deps), deps, ({ list }) => list()), formatTokens);
      return;
    }
    await callService(self, deps, async ({ service }) =>
      printAll(await listImageTokens(service, workflow), formatImageTokens),
    );
  });
}

function addRevoke(command: Command, deps: TokenCommandDeps): void {
  const revoke = command
    .command('revoke')
    .description('revokes a token; bearer tokens issued for an access token remain valid for a few minutes')
    .argument('[id]', 'the id, as shown by create and ls')
    .option('--images', `one ${IMAGES}`)
    .option('--workflow <id>', 'all of a workflow; implies --images');
  addServerOption(revoke).action(async (id: string | undefined, { images, workflow }: ListFlags, self: Command) => {
    if ((id === undefined) === (workflow === undefined)) self.error('error: give the id of a token, or --workflow');
    if (images || workflow !== undefined) {
      await callService(self, deps, ({ service }) => revokeImages(self, service, { id, workflow }));
      return;
    }
    const isRevoked = await withTokens(existing(self, deps), deps, ({ revoke }) => revoke(id ?? ''));
    if (!isRevoked) self.error('error: there is no access token with this id');
    explain(self, `access token ${id} is revoked`);
  });
}

async function revokeImages(
  self: Command,
  service: Service,
  { id = '', workflow }: { readonly id: string | undefined; readonly workflow: string | undefined },
): Promise<void> {
  if (workflow === undefined) {
    await revokeImageToken(service, id);
    explain(self, `the token ${id} is revoked`);
    return;
  }
  const revoked = await revokeWorkflow(service, workflow);
  explain(self, plainText(`${revoked} ${revoked === 1 ? 'token' : 'tokens'} of the workflow ${workflow} revoked`));
}

/** Only `create` creates records: otherwise a directory without them is the wrong one. */
function existing(self: Command, { findRecords }: TokenCommandDeps): TokenRecords {
  const found = findRecords();
  if (!found.hasRecords()) self.error(`error: there is no ${found.name}: name the data directory of the service`);
  return found;
}

async function withTokens<T>(
  { open }: TokenRecords,
  { now = () => new Date() }: TokenCommandDeps,
  work: (tokens: AccessTokens) => Promise<T>,
): Promise<T> {
  const records = await open();
  try {
    return await work(createAccessTokens({ records, now }));
  } finally {
    await records.close();
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

/** For a repeatable option. */
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

// Tokens in image names, issued by a running service: listed and revoked for `veneer token`.

const listSchema = z.object({
  tokens: z.array(
    z.object({
      token: z.string(),
      image: z.string(),
      workflowId: z.string().optional(),
      caller: z.string().optional(),
      creationTime: z.string(),
      expiration: z.string(),
    }),
  ),
  hasMore: z.boolean(),
});
const revokedSchema = z.object({ revoked: z.number() });

type ImageToken = z.output<typeof listSchema>['tokens'][number];

const HINT = 'set VENEER_TOKEN to the credentials that they were made with, or to a token made with --admin';
const HINTS: Hints = { 401: HINT, 403: HINT, 404: 'there is no such token, or it belongs to another caller' };

/** The tokens of the caller, or all of them for an administrator. Throws ServiceRefused. */
async function listImageTokens(service: Service, workflow: string | undefined): Promise<readonly ImageToken[]> {
  const all: ImageToken[] = [];
  for (let after: string | undefined; ; ) {
    const query = new URLSearchParams({ limit: '1000', ...(workflow && { workflow }), ...(after && { after }) });
    const { tokens, hasMore } = await ask(service, listSchema, `/v1/tokens?${query}`);
    all.push(...tokens);
    after = tokens.at(-1)?.token;
    if (!hasMore || after === undefined) return all;
  }
}

/** Returns the number of revoked tokens. Throws ServiceRefused. */
async function revokeWorkflow(service: Service, workflow: string): Promise<number> {
  const query = new URLSearchParams({ workflow });
  return (await ask(service, revokedSchema, `/v1/tokens?${query}`, 'DELETE')).revoked;
}

/** Throws ServiceRefused. */
async function revokeImageToken(service: Service, id: string): Promise<void> {
  await ask(service, z.unknown(), `/container-token/${encodeURIComponent(id)}`, 'DELETE');
}

async function ask<T>(service: Service, schema: z.ZodType<T>, path: string, method = 'GET'): Promise<T> {
  const response = await sendRequest(service, path, { method });
  if (!response.ok) throw await refusalOf(response, HINTS);
  return parseAnswer(schema, await response.text(), service.url.host);
}

function formatImageTokens(tokens: readonly ImageToken[]): readonly string[] {
  const rows = tokens.map(({ token, expiration, caller, workflowId, image }) =>
    [token, expiration, caller || '-', workflowId ?? '-', image].map(plainText),
  );
  return formatColumns(['TOKEN', 'EXPIRES', 'CALLER', 'WORKFLOW', 'IMAGE'], rows);
}

// The keys `rules` and `ruleDigests`: how pulled images are changed.
import { z } from 'zod';
import { atMost } from '../oci/bounded.ts';
import {
  checkChangesLength,
  envEntrySchema,
  MAX_ADDED_LAYERS,
  portSchema,
  textMapSchema,
  textSchema,
  userSchema,
  workingDirSchema,
} from '../oci/config-fields.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { InvalidPattern, parseImagePattern } from '../oci/image-pattern.ts';
import { isQuickGlob } from '../oci/name-pattern.ts';
import { formatPlatform, InvalidPlatform, parsePlatform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { duration, glob, platform } from './values.ts';

const MAX_RULES = 1000;
const MAX_GLOBS = 1000;
const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/;
const GLOB = /[*?[\]{}()!]/;
const PLATFORM_GLOB = /^[a-z0-9._*?[\]{}()!,|+@-]+(?:\/[a-z0-9._*?[\]{}()!,|+@-]+){0,2}$/;
/** A digest is renewed at most once a day: with a shorter retention it would expire while in use. */
const MIN_KEEP_MS = 2 * 86_400_000;

export function rulesSchema() {
  return z
    .array(ruleSchema())
    .max(MAX_RULES, `at most ${MAX_RULES} rules; one rule may have up to ${MAX_GLOBS} patterns in match.image`)
    .superRefine((rules, context) => {
      for (const [at, { name }] of rules.entries()) {
        if (rules.findIndex(other => other.name === name) === at) continue;
        context.addIssue({ code: 'custom', path: [at, 'name'], message: `another rule is named "${name}"` });
      }
    })
    .default([]);
}

export function ruleDigestsSchema() {
  return z
    .strictObject({
      /** Since a tag was last resolved to it. */
      keep: duration({ minMs: MIN_KEEP_MS }).prefault('90d'),
    })
    .transform(({ keep }) => ({ keepMs: keep }));
}

function ruleSchema() {
  return z
    .strictObject({
      name: z.string().regex(NAME, 'expected letters, digits, ".", "_" and "-", at most 64'),
      match: matchSchema(),
      layers: z.array(layerSchema()).check(atMost(MAX_ADDED_LAYERS, 'items')).default([]),
      env: z.union([envMapSchema, envListSchema], 'expected a mapping of text, or a list of KEY=VALUE').optional(),
      entrypoint: z.array(textSchema).optional(),
      cmd: z.array(textSchema).optional(),
      workingDir: workingDirSchema.min(1).optional(),
      user: userSchema.min(1).optional(),
      labels: textMapSchema.optional(),
      exposedPorts: z.array(z.union([z.int().transform(String), z.string()]).pipe(portSchema)).optional(),
      annotations: textMapSchema.optional(),
      pinned: z.enum(['untouched', 'refused']).default('untouched'),
    })
    .check(checkChangesLength)
    .transform(({ name, match, layers, pinned, ...changes }) => ({ name, match, layers, changes, pinned }))
    .refine(changesSomething, 'changes nothing: add layers, or env, entrypoint, cmd or another field');
}

function changesSomething({ layers, changes }: { layers: readonly unknown[]; changes: object }): boolean {
  const { entrypoint, cmd, ...rest }: Readonly<Record<string, unknown>> = { ...changes };
  if (layers.length > 0 || entrypoint !== undefined || cmd !== undefined) return true;
  // An empty list of arguments is a change; an empty mapping is not.
  return Object.values(rest).some(change => change !== undefined && !isEmpty(change));
}

function isEmpty(change: unknown): boolean {
  return typeof change === 'object' && change !== null && Object.keys(change).length === 0;
}

const envMapSchema = textMapSchema.refine(
  env => Object.keys(env).every(key => key !== '' && !key.includes('=')),
  'expected non-empty keys without "="',
);

/** Of entries with equal keys the last wins, in the position of the first. */
const envListSchema = z.array(envEntrySchema).transform(entries => Object.fromEntries(entries.map(splitEntry)));

function splitEntry(entry: string): readonly [key: string, value: string] {
  const equals = entry.indexOf('=');
  return [entry.slice(0, equals), entry.slice(equals + 1)];
}

function matchSchema() {
  return z.strictObject({
    image: oneOrMore(imagePattern()),
    not: z.union([z.tuple([]), oneOrMore(imagePattern())]).default([]),
    platform: oneOrMore(platformGlob()).optional(),
    caller: oneOrMore(glob().min(1).max(512)).optional(),
  });
}

/** A single one, or a list. */
function oneOrMore<S extends z.ZodType>(item: S) {
  const list = z.array(item).min(1).max(MAX_GLOBS);
  return z.preprocess(given => (typeof given === 'string' ? [given] : given), list);
}

function imagePattern() {
  return z.string().superRefine((text, context) => {
    try {
      parseImagePattern(text);
    } catch (error) {
      if (!(error instanceof InvalidPattern)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
  });
}

/** A platform is normalised, except that `arm` without a variant continues to match all its variants. */
function platformGlob() {
  return z.string().transform((text, context): string => {
    const lower = text.trim().toLowerCase();
    try {
      if (!GLOB.test(lower))
        return lower.endsWith('arm') ? withoutVariant(lower) : formatPlatform(parsePlatform(lower));
      if (PLATFORM_GLOB.test(lower) && isQuickGlob(lower)) return lower;
      context.addIssue({ code: 'custom', message: 'expected a platform or a glob such as linux/*' });
    } catch (error) {
      if (!(error instanceof InvalidPlatform)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
    }
    return z.NEVER;
  });
}

function withoutVariant(text: string): string {
  const { os, architecture } = parsePlatform(text);
  return formatPlatform({ os, architecture });
}

// A layer of a rule, located in one of five ways.

const FORMS = ['directory', 'file', 'url', 'location', 'image'] as const;
const MAX_PATH = 4096;
const MAX_URL = 8192;

type Form = (typeof FORMS)[number];

/** As the rules expect it. */
function layerSchema() {
  return z
    .strictObject({
      /** Paths, relative to the working directory. */
      directory: path().optional(),
      file: path().optional(),
      url: httpAddress().optional(),
      digest: z.string().refine(isDigest, 'expected sha256:<64 hex> or sha512:<128 hex>').optional(),
      location: registryAddress().optional(),
      image: imageName().optional(),
      platforms: z.array(platform()).min(1).optional(),
    })
    .transform(({ platforms, digest, ...forms }, context) => {
      const given = FORMS.filter(form => forms[form] !== undefined);
      if (given.length !== 1) return refuse(context, `expected one of ${FORMS.join(', ')}; it has ${listForms(given)}`);
      if (digest !== undefined && forms.url === undefined) return refuse(context, 'digest may only be used with url');
      return { ...(platforms && { platforms }), ...originOf(forms, digest) };
    });
}

type Forms = Readonly<Partial<Record<Form, string | undefined>>>;

function originOf({ directory, file, url, location, image = '' }: Forms, digest: Digest | undefined) {
  if (directory !== undefined) return { kind: 'directory' as const, path: directory };
  if (file !== undefined) return { kind: 'file' as const, path: file };
  if (url !== undefined) return { kind: 'url' as const, url, ...(digest !== undefined && { digest }) };
  if (location !== undefined) return { kind: 'blob' as const, location };
  return { kind: 'image' as const, image };
}

function refuse(context: z.core.$RefinementCtx, message: string) {
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
}

function listForms(given: readonly Form[]): string {
  return given.length === 0 ? 'none' : given.join(' and ');
}

function path() {
  return z
    .string()
    .min(1)
    .max(MAX_PATH)
    .refine(text => !text.includes('\0'), 'must not contain a NUL character');
}

/**
 * The room that rewrites images validates the target of an address; this only finds errors early. No message quotes it.
 */
function httpAddress() {
  return z
    .string()
    .max(MAX_URL)
    .refine(text => {
      const address = URL.parse(text);
      return /^https?:\/\/./i.test(text) && address !== null && !address.username && !address.password;
    }, 'expected an http or https URL without a user name or password');
}

function registryAddress() {
  const expected =
    'expected oci://<registry>/<repository>@<digest> or docker://<registry>/v2/<repository>/blobs/<digest>';
  return z
    .string()
    .max(MAX_URL)
    .regex(/^(?:oci:\/\/[^/@]+\/[^@]+@[^@]+|docker:\/\/[^/]+\/v2\/.+\/blobs\/[^/]+)$/, expected)
    .refine(text => isDigest(text.slice(Math.max(text.lastIndexOf('@'), text.lastIndexOf('/')) + 1)), expected);
}

function imageName() {
  return z.string().superRefine((text, context) => {
    try {
      parseReference(text);
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      context.addIssue({
        code: 'custom',
        message: `expected an image such as docker.io/org/tools:1: ${error.message}`,
      });
    }
  });
}

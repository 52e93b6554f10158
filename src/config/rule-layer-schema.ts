// A layer of a rule: where it is, in one of five ways.
import { z } from 'zod';
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { parseReference } from '../oci/reference.ts';
import { platform } from './values.ts';

const FORMS = ['directory', 'file', 'url', 'location', 'image'] as const;
const MAX_PATH = 4096;
const MAX_URL = 8192;

type Form = (typeof FORMS)[number];

/** As the rules take it. */
export function layerSchema() {
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
      if (given.length !== 1) return refuse(context, `expected one of ${FORMS.join(', ')}; it has ${told(given)}`);
      if (digest !== undefined && forms.url === undefined) return refuse(context, 'digest is for a url alone');
      return { ...(platforms && { platforms }), ...placeOf(forms, digest) };
    });
}

type Forms = Readonly<Partial<Record<Form, string | undefined>>>;

function placeOf({ directory, file, url, location, image = '' }: Forms, digest: Digest | undefined) {
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

function told(given: readonly Form[]): string {
  return given.length === 0 ? 'none' : given.join(' and ');
}

function path() {
  return z
    .string()
    .min(1)
    .max(MAX_PATH)
    .refine(text => !text.includes('\0'), 'must not contain a NUL character');
}

/** What an address leads to is read by the room that rewrites images; here it is what can be told early. No fault quotes it. */
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
